"""Every method on Omniglot, 5-way 1-shot, with the same time to train: one table.

Papers: named in each method's docstring (python -c "help(mtl_jax.learners.NAME)").
Command: TFDS_DATA_DIR=... python experiments/omniglot_all.py [METHOD ...] [--minutes 10]
    It goes on where it stopped: methods in OUT/result.json are not run again.
Setting: Vinyals split, 28x28, four rotations as classes in training, seed 0; methods with an inner loop on conv4-64 of
    stride 2 (lstm: width 32), the others on conv4-64 with max-pool; a step's work is set for each method below; 10
    minutes of training each on two CPU cores, pre-training included; test: 1,000 episodes of 15 queries, upright.
Result: experiments/results/omniglot_all.json, and the table in README.md.
"""

import argparse
import json
import tempfile
from pathlib import Path

import jax

from mtl_jax import datasets, evaluate
from mtl_jax.run.launch import launch
from mtl_jax.run.methods import METHODS, build_learner, complete
from mtl_jax.run.metrics import write_json
from mtl_jax.run.setup import use_all_cores

INNER = {"downsample": "stride", "queries": 5, "meta_lr": 2e-3}
ONE = INNER | {"inner_steps": 1, "test_steps": 3}
FEATURES = {"ways": 20, "shots": 1, "queries": 5, "tasks": 2, "meta_lr": 2e-3}
SETTINGS = {
    "maml": ONE, "fomaml": INNER, "anil": INNER, "boil": ONE, "meta-sgd": ONE, "mamlpp": INNER, "proto-maml": ONE,
    "imaml": INNER, "reptile": {"downsample": "stride"}, "protonet": FEATURES, "matching": FEATURES,
    "relation": FEATURES, "r2d2": FEATURES, "lstm": INNER | {"width": 32},
    "mtl": {"queries": 5, "pretrain_steps": 1000}, "finetune": {"tasks": 2}, "baseline-pp": {"tasks": 2},
}  # fmt: skip


def trial(config: dict, folder: Path) -> tuple[dict, float, float]:
    """(settings with the network that was pre-trained, if one was; the seconds that took; the seconds of a step)."""
    run, _ = launch(config | {"steps": 30, "log_every": 10, "val_every": 30, "val_episodes": 5}, folder, quiet=True)
    made = folder / "pretrain" / "result.json"
    spent = json.loads(made.read_text())["seconds"] if made.exists() else 0.0
    return (
        config | ({"init": str(made.parent)} if spent else {}),
        spent,
        config["tasks"] / run.history[-1]["tasks_per_s"],
    )


def measure(name: str, minutes: float, out: Path) -> dict:
    """Train for the time given, then test under both norms."""
    config = complete({"learner": name, "dataset": "omniglot", **SETTINGS[name]})
    kept = (
        "downsample",
        "width",
        "ways",
        "queries",
        "tasks",
        "inner_steps",
        "test_steps",
        "inner_lr",
        "meta_lr",
        "batch",
    )
    setting = {k: config[k] for k in kept}
    with tempfile.TemporaryDirectory() as folder:
        config, spent, pace = trial(config, Path(folder) / "run")
        steps = int((60 * minutes - spent) / pace)
        config |= {"steps": steps, "val_every": max(1, steps // 5)}
        run, result = launch(config, out / name)
    pool, config = datasets.load("omniglot", "test"), config | {"image_shape": [28, 28, 1], "ways": 5, "shots": 1}
    row = {"method": name, "steps": steps, "ms_a_step": 1000 * pace, "seconds": spent + result["seconds"]}
    for norm in ("transductive", "support"):
        learner = build_learner({**config, "classes": 4112, "norm": norm})
        seen = evaluate(learner, run.theta, pool, jax.random.key(1), 5, 1, 15, episodes=1000)
        row[norm] = {"accuracy": seen.accuracy, "ci95": seen.ci95}
        print(f"{name}, {norm}: {100 * seen.accuracy:.2f} ± {100 * seen.ci95:.2f} %", flush=True)
    return row | {"setting": setting}


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", default=list(METHODS), help="default: all")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/omniglot_all"))
    args = parser.parse_args()
    use_all_cores()
    file = args.out / "result.json"
    rows = {row["method"]: row for row in json.loads(file.read_text())["methods"]} if file.exists() else {}
    for name in (m for m in args.methods if m not in rows):
        rows[name] = measure(name, args.minutes, args.out)
        write_json(file, {"experiment": "omniglot_all", "minutes": args.minutes, "methods": list(rows.values())})
    print("| method | transductive | support | meta-steps | ms a step |\n|---|---|---|---|---|")
    for row in rows.values():
        scores = (f"{100 * row[n]['accuracy']:.2f} ± {100 * row[n]['ci95']:.2f}" for n in ("transductive", "support"))
        print(f"| {row['method']} | {' | '.join(scores)} | {row['steps']:,} | {row['ms_a_step']:.0f} |")


if __name__ == "__main__":
    main()
