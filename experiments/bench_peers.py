"""A meta-step of mtl_jax beside PyTorch's, the same work in turn on the same machine.

Peers: torch.func (task by task, and vmap), higher, TorchOpt for MAML; plain torch, in two memory layouts for
    ProtoNet, for Reptile.
Command: python experiments/bench_peers.py [WORKLOAD ...] [--rounds 3] [--out runs/bench_peers]
    The first run makes an environment for the peers in OUT/venv: torch is a large download.
Setting: conv4-64, 28x28x1, float32; every process is fresh, ours and each peer's in turn, ROUNDS times; the figure is
    the median over rounds of (peer's median step / our median step), with the least and the greatest.
Result: the table in README.md, and experiments/results/bench_peers.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import venv
from pathlib import Path

from mtl_jax.run.metrics import write_json

SIZES = {  # learner, ways, queries, tasks, inner steps; one shot
    "A": ("maml", 5, 15, 8, 5), "B": ("maml", 5, 1, 32, 1), "C": ("maml", 20, 1, 16, 5), "D": ("protonet", 60, 5, 1, 0),
    "E": ("reptile", 5, 9, 5, 5), "F": ("maml", 5, 15, 8, 50), "G": ("maml", 5, 15, 64, 5),
}  # fmt: skip
PEERS = {"maml": ("loop", "vmap", "higher", "torchopt"), "protonet": ("rows", "channels_last"), "reptile": ("rows",)}
PEER_SCRIPT = Path(__file__).parent / "peers" / "torch_steps.py"


def environment(folder: Path) -> str:
    """The Python of an environment that has the peers; made if there is none."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = ("torch", "numpy", "higher", "torchopt", "graphviz", "setuptools")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").touch()
    return str(python)


def timed(*command: str) -> dict:
    """The JSON object that a fresh process prints."""
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def compare(name: str, peer_python: str, rounds: int) -> dict:
    """Ours and every peer in turn, `rounds` times."""
    learner, ways, queries, tasks, steps = SIZES[name]
    size = [f"--ways={ways}", "--shots=1", f"--queries={queries}", f"--tasks={tasks}", "--repeats=5"]
    size += [f"--inner-steps={steps}"] if steps else []
    rule = ["--inner-rule=adam"] if learner == "reptile" else []
    ours, theirs = [], {peer: [] for peer in PEERS[learner]}
    for _ in range(rounds):
        ours.append(timed(sys.executable, "-m", "mtl_jax.cli", "bench", learner, *size, *rule, "--json"))
        for peer, seen in theirs.items():
            seen.append(timed(peer_python, str(PEER_SCRIPT), learner, f"--peer={peer}", *size))
    row = {"workload": name, "rounds": rounds, "ours_ms": statistics.median(o["step_ms"] for o in ours), "peers": {}}
    row |= {key: statistics.median(o[key] for o in ours) for key in ("temp_mib", "rss_mib", "share", "first_ms")}
    for peer, seen in theirs.items():
        ratios = sorted(p["step_ms"] / o["step_ms"] for p, o in zip(seen, ours, strict=True))
        figures = {"ms": statistics.median(p["step_ms"] for p in seen), "ratio": statistics.median(ratios)}
        row["peers"][peer] = figures | {"least": ratios[0], "greatest": ratios[-1]}
        print(
            f"{name}: {peer} takes {figures['ratio']:.2f} times ours ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True
        )
    return row


def main() -> None:
    """Compare what is asked for, and leave result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", default=["A", "B", "C", "D"], help=", ".join(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_peers"))
    args = parser.parse_args()
    python = environment(args.out.absolute() / "venv")
    rows = [compare(name, python, args.rounds) for name in args.workloads]
    write_json(args.out / "result.json", {"experiment": "bench_peers", "rows": rows})


if __name__ == "__main__":
    main()
