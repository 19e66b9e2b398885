"""A good embedding (RFS) on CIFAR-FS: pre-trained with all source classes, a logistic regression for each task.

Paper: Tian et al. 2020, arXiv 2003.11539, is the method, there by a ResNet-12; no figure of it by conv4 is set beside.
Command: TFDS_DATA_DIR=... python experiments/cifar_fs_rfs.py [--setting paper|mean] [--out runs/cifar_fs_rfs]
    [--resume]
Setting: Bertinetto's split, 32x32x3, flips and padded crops in training, conv4-64 that ends in a spatial mean in place
    of the last max-pool (64 features, not 256), batches of 64, SGD with momentum 0.9 and weight decay 5e-4, cosine,
    seed 0; best of the validations, which are 1-shot episodes; 1,000 test episodes of 15 queries. mean: rate 0.1, 9,000
    steps (15 epochs). paper: rate 0.05, 54,000 steps, for an accelerator; not run.
Result: in docs/results.md.
"""

from tools import publish

PAPER = {
    "learner": "rfs", "dataset": "cifar_fs", "downsample": "mean", "optimizer": "sgd", "momentum": 0.9,
    "weight_decay": 5e-4, "meta_lr": 0.05, "batch": 64, "steps": 54000, "val_every": 500, "val_episodes": 200,
}  # fmt: skip
MEAN = PAPER | {"meta_lr": 0.1, "steps": 9000}

if __name__ == "__main__":
    publish("cifar_fs_rfs", __doc__, {"paper": PAPER, "mean": MEAN})
