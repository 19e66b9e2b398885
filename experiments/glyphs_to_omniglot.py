"""From printed letters to handwriting: trained on glyphs, tested on Omniglot and digits, which training never saw.

Command: TFDS_DATA_DIR=... python experiments/glyphs_to_omniglot.py [--steps 1200] [--out runs/glyphs_to_omniglot]
Setting: ProtoNet, conv4-32, 60-way 1-shot episodes of 5 queries, one a step, four rotations as classes in training,
    Adam 2e-3 cosine, seed 0; 5-way 1-shot, 1,000 test episodes of 15 queries on each target's test classes, upright.
Result: none yet; not run to its end.
"""

import argparse
from pathlib import Path

from mtl_jax.run.launch import launch
from mtl_jax.run.methods import complete
from mtl_jax.run.metrics import write_json
from mtl_jax.run.report import score_run
from mtl_jax.run.setup import tune_cpu

SETTING = {
    "learner": "protonet", "dataset": "glyphs", "width": 32, "ways": 60, "shots": 1, "queries": 5, "tasks": 1,
    "meta_lr": 2e-3, "val_every": 300,
}  # fmt: skip


def main() -> None:
    """Train on the source, test on every target, and leave result.json in the run's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--out", type=Path, default=Path("runs/glyphs_to_omniglot"))
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    tune_cpu()
    _, result = launch(complete({**SETTING, "steps": args.steps}), args.out, args.resume)
    tests = {target: score_run(args.out, target, shots=(1,)) for target in ("glyphs", "omniglot", "digits")}
    write_json(args.out / "result.json", {"experiment": "glyphs_to_omniglot", **result, "tests": tests})


if __name__ == "__main__":
    main()
