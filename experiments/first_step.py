"""How long people wait for the first meta-step: from process start, with a cold cache of programs and with a warm one.

Command: TFDS_DATA_DIR=... python experiments/first_step.py [LEARNER ...] [--rounds 3] [--dataset omniglot]
    [--out runs/first_step]
Setting: conv4-64, 28x28x1: MAML, second order, 5-way 1-shot, 15 queries, 8 tasks, 5 inner steps; ProtoNet, 60-way
    1-shot, 5 queries, one task. Each pair is two fresh processes, the first with an empty cache of compiled programs,
    the second with what the first left there; the data set has been prepared and cached before. "second train" is a
    train() with the same learner and settings in the same process. Medians over pairs, with the least and greatest.
Result: the table in docs/performance.md, and experiments/results/first_step.json.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from peers.processes import timed
from tools import read_rows

from mtl_jax import datasets
from mtl_jax.run.metrics import write_json

CHILD = Path(__file__).parent / "peers" / "own_first_step.py"
ABOUT = {"maml": "MAML, 5 inner steps, 8 tasks", "protonet": "ProtoNet, 60-way, one task"}
PARTS = ("importing", "reading", "tracing", "compiling", "second_train")


def pairs(learner: str, dataset: str, rounds: int, width: int) -> list[dict]:
    """Rows of a learner: cold, and warm."""
    seen: dict[str, list[dict]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
            for cache, values in seen.items():
                given = (learner, f"--dataset={dataset}", f"--width={width}", f"--began={time.time()}")
                values.append(timed(sys.executable, str(CHILD), *given))
                print(f"{learner}, {cache}: {values[-1]}", flush=True)
    rows = []
    for cache, values in seen.items():
        seconds = sorted(v["seconds"] for v in values)
        row = {"learner": learner, "about": ABOUT[learner], "cache": cache, "rounds": rounds}
        row |= {"seconds": statistics.median(seconds), "least": seconds[0], "greatest": seconds[-1]}
        rows.append(row | {part: statistics.median(v[part] for v in values) for part in PARTS})
    return rows


def main() -> None:
    """Time what is asked for, and leave result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learners", nargs="*", metavar="LEARNER", default=list(ABOUT), help=", ".join(ABOUT))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dataset", default="omniglot")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("runs/first_step"))
    args = parser.parse_args()
    datasets.load(args.dataset, "train")  # so that it is in the cache
    for name in args.learners:
        old = [row for row in read_rows(args.out / "result.json", "rows") if row["learner"] != name]
        rows = sorted(old + pairs(name, args.dataset, args.rounds, args.width), key=lambda row: row["learner"])
        write_json(args.out / "result.json", {"experiment": "first_step", "dataset": args.dataset, "rows": rows})


if __name__ == "__main__":
    main()
