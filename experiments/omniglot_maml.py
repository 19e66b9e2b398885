"""Second-order MAML on Omniglot, 5-way 1-shot.

Paper: Finn, Abbeel and Levine 2017, arXiv 1703.03400, prints 98.7 ± 0.4 % after 60,000 meta-steps.
Command: TFDS_DATA_DIR=... python experiments/omniglot_maml.py [--out runs/omniglot_maml]
Setting: Vinyals split, 28x28, four rotations as classes in training, conv4-64 with stride 2 (the authors' network),
    1 inner step of rate 0.4 (3 at test), 16 tasks of 5 queries, Adam 2e-3 cosine; 1,000 test episodes of 15
    queries, upright characters.
Result: 96.26 ± 0.26 % (norm transductive), 94.33 ± 0.34 % (support), seed 0, after 22 minutes on two shared CPU cores.
    2.4 points short of the paper, whose run has 13 times as many tasks; five inner steps gave 94.62 ± 0.33 % in 31.
"""

import argparse

import jax

from mtl_jax import datasets, evaluate, learners, models, train
from mtl_jax.run.backend import configure_cpu
from mtl_jax.run.metrics import write_json
from mtl_jax.run.optimizer import meta_optimizer
from mtl_jax.run.progress import Progress


def main() -> None:
    """Train, test under both norms, and leave result.json in the run's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/omniglot_maml")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    configure_cpu()

    def learner(norm: str):
        return learners.maml(models.conv4(5, 64, norm, "stride"), inner_lr=0.4, inner_steps=1, test_steps=3)

    pool, val, test = (datasets.load("omniglot", split) for split in ("train", "val", "test"))
    key = jax.random.key(args.seed)
    with Progress(args.steps) as progress:
        run = train(
            learner("transductive"), pool, key, ways=5, shots=1, queries=5, tasks=16, steps=args.steps,
            optimizer=meta_optimizer(2e-3, args.steps), augment="rotations", val_pool=val, val_size=(5, 1, 15),
            val_every=500, out=args.out, resume=args.resume, callbacks=[progress],
        )  # fmt: skip
    rows = []
    for norm in ("transductive", "support"):
        seen = evaluate(learner(norm), run.theta, test, jax.random.key(1), ways=5, shots=1, queries=15, episodes=1000)
        rows.append({"norm": norm, "shots": 1, "accuracy": seen.accuracy, "ci95": seen.ci95})
        print(f"omniglot 5-way 1-shot, maml order 2, norm {norm}: {100 * seen.accuracy:.2f} ± {100 * seen.ci95:.2f} %")
    write_json(
        run.folder / "result.json",
        {"experiment": "omniglot_maml", "steps": args.steps, "seed": args.seed, "episodes": 1000}
        | {"train_seconds": run.seconds, "test": rows},
    )


if __name__ == "__main__":
    main()
