"""The transfer matrix: every source domain's networks tested on every target domain, for several methods.

Command: TFDS_DATA_DIR=... python experiments/transfer_matrix.py [--sources ...] [--targets ...] [--methods ...]
    [--minutes 3] [--episodes 600] [--out runs/transfer_matrix]. It goes on where it stopped: runs and cells that OUT
    has are not made again.
Setting: conv4-64, 5-way, 1 and 5 shots, 15 queries, trained at 1 shot for the same time on each source, seed 0, norm
    transductive. One rule for images: a target's are resized to the source's size, and given its channels, gray by
    their luma (ITU-R 601), colour by three equal channels. On the diagonal the test classes are unseen, the domain is
    not: ordinary few-shot learning. Off it, knowledge of one domain is used in another.
    CIFAR-FS and FC100 are both made of CIFAR-100, split in different ways: the cells between these two are tested on
    classes that training has in part seen.
Result: OUT/result.json, OUT/transfer.png, and the table; with --minutes 1.5 they are in the README. glyphs -> omniglot
    94.4 ± 0.4 % (protonet, 1 shot), omniglot -> glyphs 85.4 ± 0.8 %, cifar_fs -> omniglot 74.9 ± 0.9 % (finetune).
"""

import argparse
import re
from pathlib import Path

from tools import launch_for, read_rows, score_run

from mtl_jax.app import grids
from mtl_jax.app.launch import train_or_resume
from mtl_jax.app.methods import resolve_settings
from mtl_jax.app.runs import read_settings
from mtl_jax.run.backend import configure_cpu
from mtl_jax.run.metrics import write_json

FEATURES = {"ways": 20, "queries": 5, "tasks": 2, "meta_lr": 2e-3}
STEPS = {"downsample": "stride", "queries": 5, "inner_steps": 1, "test_steps": 3, "meta_lr": 2e-3}
SETTINGS = {"protonet": FEATURES, "r2d2": FEATURES, "matching": FEATURES, "maml": STEPS, "fomaml": STEPS}
SHOTS = (1, 5)


def trained(source: str, method: str, minutes: float, out: Path) -> Path:
    """The folder of the source's run, trained unless it is there."""
    folder = out / re.sub(r"\W+", "-", f"{source}-{method}")
    if (folder / "checkpoints").exists():
        train_or_resume(read_settings(folder), folder)
    else:
        config = resolve_settings({"learner": method, "dataset": source, "shots": 1, **SETTINGS.get(method, {})})
        launch_for(config, minutes, folder)
    return folder


def main() -> None:
    """Fill the cells that are missing, and print and draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", nargs="+", default=["glyphs", "omniglot", "cifar_fs", "fc100"])
    parser.add_argument("--targets", nargs="+", default=["glyphs", "omniglot", "digits", "cifar_fs", "fc100"])
    parser.add_argument("--methods", nargs="+", default=["protonet", "maml", "finetune"])
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer_matrix"))
    args = parser.parse_args()
    configure_cpu()
    file = args.out / "result.json"
    cells = read_rows(file, "cells")
    seen = {(cell["source"], cell["method"], cell["target"]) for cell in cells}
    wanted = [(source, method, target) for source in args.sources for method in args.methods for target in args.targets]
    for source, method, target in (each for each in wanted if each not in seen):
        folder = trained(source, method, args.minutes, args.out)
        rows = score_run(folder, target, shots=SHOTS, episodes=args.episodes, norms=("transductive",))
        cells += [{"source": source, "method": method, "target": target, **row} for row in rows]
        write_json(file, {"experiment": "transfer_matrix", "minutes": args.minutes, "cells": cells})
    scores = {tuple(c[k] for k in ("source", "method", "target", "shots")): (c["accuracy"], c["ci95"]) for c in cells}
    figures = {
        (f"{source}, {method}", f"{target}, {k} shot{'s' * (k > 1)}"):
            tuple(100 * x for x in scores[source, method, target, k])
        for k in SHOTS for source, method, target in wanted
    }  # fmt: skip
    asked = [cell for cell in cells if (cell["source"], cell["method"], cell["target"]) in set(wanted)]
    grids.transfer_matrix(asked, args.out / "transfer.png")
    columns = list(dict.fromkeys(column for _, column in figures))
    print("| source, method | " + " | ".join(columns) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for row in dict.fromkeys(row for row, _ in figures):
        print(f"| {row} | " + " | ".join("{:.1f} ± {:.1f}".format(*figures[row, column]) for column in columns) + " |")


if __name__ == "__main__":
    main()
