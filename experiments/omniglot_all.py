"""Every method on Omniglot, 5-way 1-shot, with the same time to train: one table.

Papers: named in each method's docstring (python -c "help(mtl_jax.learners.NAME)").
Command: TFDS_DATA_DIR=... python experiments/omniglot_all.py [METHOD ...] [--minutes 10]
    It goes on where it stopped: methods in OUT/result.json are not run again.
Setting: Vinyals split, 28x28, four rotations as classes in training, seed 0; methods with an inner loop on conv4-64 of
    stride 2 (lstm: width 32), the others on conv4-64 with max-pool; a step's work is set for each method below; 10
    minutes of training each, pre-training included; test: 1,000 episodes of 15 queries, upright. The record was made
    with a process to each of two CPU cores (taskset), so that a method had ten minutes of one core.
Result: experiments/results/omniglot_all.json, and the table in README.md.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
from tools import fill_methods, launch_for, read_curve, score_run

from mtl_jax.app.methods import METHODS, given_of, resolve_settings
from mtl_jax.run.backend import configure_cpu

INNER = {"downsample": "stride", "queries": 5, "meta_lr": 2e-3}
ONE = INNER | {"inner_steps": 1, "test_steps": 3}
FEATURES = {"ways": 20, "shots": 1, "queries": 5, "tasks": 2, "meta_lr": 2e-3}
SETTINGS = {
    "maml": ONE, "fomaml": INNER, "anil": INNER, "boil": ONE, "meta-sgd": ONE, "mamlpp": INNER, "proto-maml": ONE,
    "imaml": INNER, "reptile": {"downsample": "stride"}, "protonet": FEATURES, "matching": FEATURES,
    "relation": FEATURES, "r2d2": FEATURES, "lstm": INNER | {"width": 32},
    "mtl": {"queries": 5, "pretrain_steps": 1000}, "finetune": {"tasks": 2}, "baseline-pp": {"tasks": 2},
}  # fmt: skip
KEPT = ("downsample", "width", "ways", "queries", "tasks", "inner_steps", "test_steps", "inner_lr", "meta_lr", "batch")


def measure(name: str, minutes: float, out: Path) -> dict:
    """Train for the time given, then test under both norms."""
    config = resolve_settings({"learner": name, "dataset": "omniglot", **SETTINGS[name]})
    _, result = launch_for(config, minutes, out / name)
    row = {"method": name, "tests": score_run(out / name, shots=(1,)), "curve": read_curve(out / name)}
    row |= {k: result[k] for k in ("steps", "ms_a_step", "seconds")}
    return row | {"setting": {k: given_of(config).get(k) for k in KEPT}}


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", default=list(METHODS), help="default: all")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/omniglot_all"))
    args = parser.parse_args()
    configure_cpu()
    about = {"experiment": "omniglot_all", "minutes": args.minutes, "cores": jax.local_device_count()}
    one = partial(measure, minutes=args.minutes, out=args.out)
    rows = fill_methods(args.out / "result.json", about, args.methods, one)
    print("| method | transductive | support | meta-steps | ms a step |\n|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: -row["tests"][0]["accuracy"]):
        scores = (f"{100 * test['accuracy']:.2f} ± {100 * test['ci95']:.2f}" for test in row["tests"])
        print(f"| {row['method']} | {' | '.join(scores)} | {row['steps']:,} | {row['ms_a_step']:.0f} |")


if __name__ == "__main__":
    main()
