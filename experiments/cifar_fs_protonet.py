"""Prototypical networks on CIFAR-FS, 5-way 1-shot and 5-shot.

Paper: Snell et al. 2017, arXiv 1703.05175; Bertinetto et al. 2019, arXiv 1805.08136, print 55.5 ± 0.7 % (1 shot) and
    72.0 ± 0.6 % (5 shots) for it on CIFAR-FS.
Command: TFDS_DATA_DIR=... python experiments/cifar_fs_protonet.py [--setting cpu|one_shot|paper]
    [--out runs/cifar_fs_protonet] [--init RUN]
Setting: Bertinetto's split, 32x32x3, flips and padded crops in training, conv4-64, Adam cosine, seed 0; best of the
    validations; 1,000 test episodes of 15 queries. cpu: 20-way 5-shot episodes of 5 queries, one a step, 6,000 steps.
    one_shot: 20-way 1-shot episodes of 10 queries, 1,500 steps from the network of --init. paper: 20-way 5-shot, 15
    queries, for an accelerator; not run.
Result: in docs/results.md; cpu took 24 minutes of training on one of two shared CPU cores, one_shot 10 more. Both were
    trained twice, by two versions of this package: 54.78 and 54.69 % (1 shot, transductive), 73.82 and 73.55 % (5
    shots) by cpu, 56.47 and 56.51 %, 73.42 and 73.19 % by one_shot, whose weights come with the package
    (protonet-cifar_fs).
"""

from tools import publish

CPU = {
    "learner": "protonet", "dataset": "cifar_fs", "ways": 20, "shots": 5, "queries": 5, "tasks": 1, "steps": 6000,
    "meta_lr": 2e-3, "val_every": 500,
}  # fmt: skip
ONE_SHOT = CPU | {"shots": 1, "queries": 10, "steps": 1500, "meta_lr": 5e-4, "val_every": 250}
PAPER = CPU | {"queries": 15, "steps": 40000, "meta_lr": 1e-3, "val_every": 1000}

if __name__ == "__main__":
    publish("cifar_fs_protonet", __doc__, {"cpu": CPU, "one_shot": ONE_SHOT, "paper": PAPER})
