"""A meta-step of mtl_jax beside PyTorch's, the same work in turn on the same machine.

Peers: torch.func (task by task, and vmap), higher, TorchOpt for MAML, and MAML as JAX code usually writes it, vmap over
    lax.conv; plain torch, in two memory layouts for ProtoNet, for Reptile.
Command: python experiments/bench_peers.py [WORKLOAD ...] [--peers PEER ...] [--rounds 3] [--out runs/bench_peers]
    The first run makes an environment for the peers in OUT/venv: torch is a large download. A workload measured again
    takes its row's place in OUT/result.json; the others stay.
Setting: conv4-64, 28x28x1, float32; every process is fresh, ours and each peer's in turn, ROUNDS times; the figure is
    the median over rounds of (peer's median step / our median step), with the least and the greatest.
Result: the table in README.md, and experiments/results/bench_peers.json.
"""

import argparse
import statistics
import sys
from pathlib import Path

from peers.processes import environment, timed
from tools import read_rows

from mtl_jax.run.metrics import write_json

SIZES = {  # learner, ways, queries, tasks, inner steps; one shot
    "A": ("maml", 5, 15, 8, 5), "B": ("maml", 5, 1, 32, 1), "C": ("maml", 20, 1, 16, 5), "D": ("protonet", 60, 5, 1, 0),
    "E": ("reptile", 5, 9, 5, 5), "F": ("maml", 5, 15, 8, 50), "G": ("maml", 5, 15, 64, 5),
}  # fmt: skip
PEERS = {
    "maml": ("loop", "vmap", "higher", "torchopt", "vmap_conv"),
    "protonet": ("rows", "channels_last"),
    "reptile": ("rows",),
}
SCRIPTS = Path(__file__).parent / "peers"


def compare(name: str, wanted: list[str] | None, peer_python: str, rounds: int) -> dict:
    """Ours and every peer in turn, `rounds` times."""
    learner, ways, queries, tasks, steps = SIZES[name]
    size = [f"--ways={ways}", "--shots=1", f"--queries={queries}", f"--tasks={tasks}"]
    size += [f"--inner-steps={steps}"] if steps else []
    own = [learner, "--json", "--repeats=5", *(["--inner-rule=adam"] if learner == "reptile" else [])]
    ours, theirs = [], {peer: [] for peer in PEERS[learner] if wanted is None or peer in wanted}
    for _ in range(rounds):
        ours.append(timed(sys.executable, "-m", "mtl_jax.cli", "bench", *own, *size))
        for peer, seen in theirs.items():
            script = [peer_python, SCRIPTS / "torch_steps.py", learner, f"--peer={peer}", "--repeats=5"]
            if peer == "vmap_conv":  # ten times as slow
                script = [sys.executable, SCRIPTS / "jax_vmap_conv.py", learner, "--repeats=1"]
            seen.append(timed(*map(str, script), *size))
    row = {"workload": name, "rounds": rounds, "ours_ms": statistics.median(o["step_ms"] for o in ours), "peers": {}}
    row |= {key: statistics.median(o[key] for o in ours) for key in ("temp_mib", "rss_mib", "share", "first_ms")}
    for peer, seen in theirs.items():
        ratios = sorted(p["step_ms"] / o["step_ms"] for p, o in zip(seen, ours, strict=True))
        figures = {"ms": statistics.median(p["step_ms"] for p in seen), "ratio": statistics.median(ratios)}
        row["peers"][peer] = figures | {"least": ratios[0], "greatest": ratios[-1]}
        text = "{}: {} takes {:.2f} times ours ({:.2f} to {:.2f})"
        print(text.format(name, peer, figures["ratio"], ratios[0], ratios[-1]), flush=True)
    return row


def main() -> None:
    """Compare what is asked for, and leave result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", default=["A", "B", "C", "D"], help=", ".join(SIZES))
    parser.add_argument("--peers", nargs="+", help="those alone (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_peers"))
    args = parser.parse_args()
    python = environment(args.out.absolute() / "venv")
    for name in args.workloads:
        row = compare(name, args.peers, python, args.rounds)
        rows = [row, *(old for old in read_rows(args.out / "result.json", "rows") if old["workload"] != name)]
        rows.sort(key=lambda each: each["workload"])
        write_json(args.out / "result.json", {"experiment": "bench_peers", "rows": rows})


if __name__ == "__main__":
    main()
