"""A meta-step of mtl_jax beside PyTorch's, the same work in turn on the same machine.

Peers: torch.func (task by task, vmap, and vmap compiled by torch.compile), higher, TorchOpt for MAML, and MAML as JAX
    code usually writes it, vmap over lax.conv; plain torch in two memory layouts, and compiled, for the others.
Command: python experiments/bench_peers.py [WORKLOAD ...] [--peers PEER ...] [--rounds 3] [--out runs/bench_peers]
    The first run makes an environment for the peers in OUT/venv: torch is a large download. A workload measured again
    takes its row's place in OUT/result.json; the others stay.
Setting: float32, conv4-64 and 28x28x1 where a workload says no other; every process is fresh, ours and each peer's in
    turn, ROUNDS times; the figure is the median over rounds of (peer's median step / our median step), with the least
    and the greatest. A peer that has not ended after five minutes in the first round is left out, and its row says so.
Result: the table in docs/performance.md, and experiments/results/bench_peers.json.
"""

import argparse
import statistics
from pathlib import Path

from peers.processes import environment, timed
from peers.workloads import WORKLOADS, own_command, peer_command
from tools import read_rows

from mtl_jax.run.metrics import write_json

LIMIT = 300.0  # seconds
MEDIANS = ("temp_mib", "rss_mib", "share", "first_ms", "matmul_gflops")


def compare(name: str, wanted: list[str] | None, python: str, rounds: int, repeats: int | None) -> dict:
    """Ours and every peer in turn, `rounds` times."""
    workload, ours, failed = WORKLOADS[name], [], {}
    theirs: dict[str, list[dict]] = {peer: [] for peer in workload.peers if wanted is None or peer in wanted}
    for turn in range(rounds):
        ours.append(timed(*own_command(workload, repeats)))
        for peer in list(theirs):
            try:
                limit = None if turn else LIMIT
                theirs[peer].append(timed(*peer_command(workload, peer, python, repeats), limit=limit))
            except (TimeoutError, RuntimeError) as error:
                failed[peer] = " ".join(str(error).split())
                print(f"{name}: {peer} is left out: {failed[peer]}", flush=True)
                del theirs[peer]
    row = {"workload": name, "rounds": rounds, "ours_ms": statistics.median(o["step_ms"] for o in ours), "peers": {}}
    row |= {key: statistics.median(o[key] for o in ours) for key in MEDIANS} | {"failed": failed}
    row["shares"] = {key: statistics.median(o["shares"][key] for o in ours) for key in ours[0]["shares"]}
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
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", default=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}; all"
    )
    parser.add_argument("--peers", nargs="+", help="those alone (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, help="timed steps of each process (default: the workload's)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_peers"))
    args = parser.parse_args()
    if odd := set(args.workloads) - set(WORKLOADS):
        parser.error(f"unknown workload {', '.join(sorted(odd))}: choose of {', '.join(WORKLOADS)}")
    python = environment(args.out.absolute() / "venv")
    for name in args.workloads:
        row = compare(name, args.peers, python, args.rounds, args.repeats)
        rows = [row, *(old for old in read_rows(args.out / "result.json", "rows") if old["workload"] != name)]
        rows.sort(key=lambda each: each["workload"])
        write_json(args.out / "result.json", {"experiment": "bench_peers", "rows": rows})


if __name__ == "__main__":
    main()
