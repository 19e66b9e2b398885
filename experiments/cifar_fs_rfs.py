"""A good embedding (RFS) on CIFAR-FS: pre-trained with all source classes, alone and with a teacher.

Paper: Tian et al. 2020, arXiv 2003.11539, is the method; its networks on CIFAR-FS are ResNet-12.
Command: TFDS_DATA_DIR=... python experiments/cifar_fs_rfs.py [--setting alone|teacher|taught|longer]
    [--out runs/cifar_fs_rfs] [--teacher RUN] [--init RUN] [--resume]
Setting: Bertinetto's split, 32x32x3, flips and padded crops in training, conv4-64, batches of 64, SGD of rate 0.1 with
    momentum 0.9 and weight decay 5e-4, cosine, seed 0; best of the validations, which are 1-shot episodes; a logistic
    regression of features of length 1 for each task; 1,000 test episodes of 15 queries. alone: 8,000 steps (13 epochs).
    teacher: a ResNet-12 of 32-64-128-256, 5,000 steps. taught: 10,000 steps, half of the loss the teacher's (--teacher,
    the run of teacher or another one; temperature 4). longer: so at rate 0.05, from the network of taught (--init).
Result: alone: 7 minutes on one of two shared CPU cores, beside other runs; 49.6 ± 1.3 % of 300 validation tasks at 1
    shot, 64 % of 64 classes in training batches. alone with --teacher, the network of alone (the paper's
    self-distillation): 8 minutes, 50.4 ± 1.3 and 65 %. teacher: 20 minutes; 55.1 ± 1.4 % of 200 validation tasks, 70 %
    in training batches. taught: 17 minutes; 52.8 ± 1.3 % of validation tasks, 66 % in training batches. Of 600 other
    validation tasks it has 51.6 and 69.1 % (1 and 5 shots), paired with alone 2.9 and 2.8 points more. longer: 17
    minutes, in docs/results.md beside alone; 53.0 ± 1.3 % of validation tasks, 68 % in training batches: R2-D2 goes on
    from it (cifar_fs_r2d2.py --setting distilled). As long without a teacher (longer from alone, 18,000 batches in
    all): 51.0 % of 300 validation tasks, 69 % in training batches, 2.4 ± 0.6 and 1.7 ± 0.5 points less than with it of
    400 others at 1 and 5 shots, so that of the 4 points between the two tested networks about half is the teacher's,
    and the rest length.
"""

from tools import publish

ALONE = {
    "learner": "finetune", "head": "logistic", "dataset": "cifar_fs", "optimizer": "sgd", "momentum": 0.9,
    "weight_decay": 5e-4, "meta_lr": 0.1, "batch": 64, "steps": 8000, "val_every": 2000, "val_episodes": 300,
}  # fmt: skip
TEACHER = ALONE | {"model": "resnet12", "width": 32, "steps": 5000, "val_every": 2500, "val_episodes": 200}
TAUGHT = ALONE | {"steps": 10000}
LONGER = TAUGHT | {"meta_lr": 0.05}

if __name__ == "__main__":
    settings = {"alone": ALONE, "teacher": TEACHER, "taught": TAUGHT, "longer": LONGER}
    publish("cifar_fs_rfs", __doc__, settings)
