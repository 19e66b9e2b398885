"""The workloads on whatever accelerator JAX finds: time, memory and scaling over tasks, beside vmap over lax.conv.

Peer: the same step as JAX code usually writes it, `vmap` over `lax.conv`, for MAML and ProtoNet.
Command: python experiments/bench_gpu.py [WORKLOAD ...] [--rounds 3] [--small] [--out runs/bench_gpu]
    --small takes tiny sizes, to try it out on a CPU. A workload measured again takes its row's place in
    OUT/result.json. Copied to experiments/results/bench_gpu.json it is docs/performance.md's table.
Setting: those of bench_peers.py, float32; every process is fresh, ours and the peer's in turn, ROUNDS times, medians
    of 20 steps. Scaling: A with 1, 2, 4, ... 64 tasks. Memory: the compiled step's temporary buffers, and the device's
    peak where it says so.
Result: not run on an accelerator yet.
"""

import argparse
import json
import statistics
from pathlib import Path

from peers.processes import timed
from peers.workloads import WORKLOADS, own_command, peer_command, smaller
from tools import read_rows

from mtl_jax.run.metrics import write_json

KEPT = ("step_ms", "first_ms", "temp_mib", "device_mib", "rss_mib", "share", "matmul_gflops")


def measure(name: str, rounds: int, small: bool) -> dict:
    """A workload's row: ours and the peer in turn."""
    workload, ours, theirs = WORKLOADS[name], [], []
    repeats, more = 1 if small else 20, smaller(workload) if small else ()
    for _ in range(rounds):
        ours.append(timed(*own_command(workload, repeats), *more))
        if workload.learner in ("maml", "protonet"):
            theirs.append(timed(*peer_command(workload, "vmap_conv", "", repeats), *more)["step_ms"])
    row = {"workload": name, "rounds": rounds, "device": ours[0]["device"], "small": small}
    seen = {key: [run[key] for run in ours if run.get(key) is not None] for key in KEPT}
    row |= {key: statistics.median(values) if values else None for key, values in seen.items()}
    if theirs:
        ratios = sorted(their / own["step_ms"] for their, own in zip(theirs, ours, strict=True))
        row |= {"peer_ms": statistics.median(theirs), "ratio": statistics.median(ratios)}
        row |= {"least": ratios[0], "greatest": ratios[-1]}
    return row


def main() -> None:
    """Measure what is asked for, and leave result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", default=list(WORKLOADS), help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_gpu"))
    args = parser.parse_args()
    out = args.out / "result.json"
    for name in args.workloads:
        try:
            row = measure(name, args.rounds, args.small)
        except RuntimeError as error:  # such as too little memory: the others go on
            row = {"workload": name, "failed": " ".join(str(error).split())}
        print(json.dumps(row), flush=True)
        rows = [row, *(old for old in read_rows(out, "rows") if old["workload"] != name)]
        rows.sort(key=lambda each: each["workload"])
        about = {"experiment": "bench_gpu", "device": next((r["device"] for r in rows if "device" in r), None)}
        write_json(out, about | {"rows": rows, "scaling": []})
    sweep = f"tasks={','.join(str(2**k) for k in range(2 if args.small else 7))}"
    command = own_command(WORKLOADS["A"], 1 if args.small else 20)
    told = timed(
        *command, *(smaller(WORKLOADS["A"]) if args.small else ()), "--sweep", sweep, "--out", str(args.out / "scaling")
    )
    scaling = [{key: row[key] for key in ("tasks", "tasks_per_s", *KEPT)} for row in told["rows"]]
    whole = {"experiment": "bench_gpu", "device": told["rows"][0]["device"], "rows": read_rows(out, "rows")}
    write_json(out, whole | {"scaling": scaling})


if __name__ == "__main__":
    main()
