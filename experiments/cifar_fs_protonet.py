"""Prototypical networks on CIFAR-FS, 5-way 1-shot and 5-shot.

Paper: Snell et al. 2017, arXiv 1703.05175; Bertinetto et al. 2019, arXiv 1805.08136, print 55.5 ± 0.7 % (1 shot) and
    72.0 ± 0.6 % (5 shots) for it on CIFAR-FS.
Command: TFDS_DATA_DIR=... python experiments/cifar_fs_protonet.py [--setting cpu|paper] [--out runs/cifar_fs_protonet]
Setting: Bertinetto's split, 32x32x3, flips and padded crops in training, conv4-64, Adam cosine, seed 0; best of the
    validations; 1,000 test episodes of 15 queries. cpu: 20-way 5-shot episodes of 5 queries, one a step. paper: 20-way
    5-shot, 15 queries, for an accelerator; not run.
Result: none yet; neither setting has been run to its end.
"""

from mtl_jax.run.publish import publish

CPU = {
    "learner": "protonet", "dataset": "cifar_fs", "ways": 20, "shots": 5, "queries": 5, "tasks": 1, "steps": 6000,
    "meta_lr": 2e-3, "val_every": 500,
}  # fmt: skip
PAPER = CPU | {"queries": 15, "steps": 40000, "meta_lr": 1e-3, "val_every": 1000}

if __name__ == "__main__":
    publish("cifar_fs_protonet", __doc__, {"cpu": CPU, "paper": PAPER})
