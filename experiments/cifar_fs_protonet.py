"""Prototypical networks on CIFAR-FS, 5-way 1-shot and 5-shot.

Paper: Bertinetto et al. 2019, arXiv 1805.08136, print 55.5 ± 0.7 % (1 shot) and 72.0 ± 0.6 % (5 shots) for it.
Command: TFDS_DATA_DIR=... python experiments/cifar_fs_protonet.py [--out runs/cifar_fs_protonet]
Setting: Bertinetto's split, 32x32x3, flips and padded crops in training, conv4-64, 20-way 5-shot episodes of 5 queries,
    Adam 2e-3 cosine; 1,000 test episodes of 15 queries.
"""

import argparse

import jax

from mtl_jax import datasets, learners, models, train
from mtl_jax.run.metrics import write_json
from mtl_jax.run.optimizer import meta_optimizer
from mtl_jax.run.progress import Progress
from mtl_jax.run.report import score_rows
from mtl_jax.run.setup import tune_cpu


def main() -> None:
    """Train, test under both norms, and leave result.json in the run's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/cifar_fs_protonet")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    tune_cpu()

    def learner(norm: str):
        return learners.protonet(models.conv4(None, 64, norm))

    pool, val, test = (datasets.load("cifar_fs", split) for split in ("train", "val", "test"))
    with Progress(args.steps, "protonet on cifar_fs") as progress:
        run = train(
            learner("transductive"), pool, jax.random.key(args.seed), ways=20, shots=5, queries=5, tasks=1,
            steps=args.steps, optimizer=meta_optimizer(2e-3, args.steps), augment="flip_crop", val_pool=val,
            val_size=(5, 1, 15), val_every=500, out=args.out, resume=args.resume, on_progress=progress,
        )  # fmt: skip
    rows = score_rows(learner, run.theta, test, "protonet on cifar_fs")
    write_json(
        run.folder / "result.json",
        {"experiment": "cifar_fs_protonet", "steps": args.steps, "seed": args.seed}
        | {"train_seconds": run.seconds, "test": rows},
    )


if __name__ == "__main__":
    main()
