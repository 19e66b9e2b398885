"""A good embedding (RFS) on mini-ImageNet: pre-trained with all source classes, a logistic regression for each task.

Papers: Chen et al. 2019, arXiv 1904.04232, print 48.24 ± 0.75 % and 66.43 ± 0.63 % (1 and 5 shots) for Baseline++ on
    conv4-64; Tian et al. 2020, arXiv 2003.11539, is the method.
Command: python experiments/mini_imagenet_rfs.py [--setting paper|half_size|cpu|mean_half_size|mean] [--out
    runs/mini_imagenet_rfs] [--init RUN] [--resume], after mtl-jax datasets prepare mini_imagenet
Setting: Ravi and Larochelle's split, 84x84x3, flips and padded crops in training, conv4-64, batches of 64, SGD with
    momentum 0.9 and weight decay 5e-4, cosine, seed 0; best of the validations, which are 1-shot episodes; 1,000 test
    episodes of 15 queries. paper: rate 0.05, 60,000 steps, for an accelerator; not run. half_size: images of 42x42,
    rate 0.1, 9,000 steps (15 epochs) from the network of a prototypical network (--init, the run of
    mini_imagenet_protonet.py --setting cpu). cpu: 84x84, rate 0.05, 3,000 steps (5 epochs) from the network of
    half_size (--init). mean_half_size and mean: as half_size from nothing and as cpu from it, 4,000 steps, with the
    spatial mean of the last block's maps in place of its max-pool, as the method's authors have it (64 features, not
    1,600).
Result: in docs/results.md. half_size: 26 minutes of training on one of two shared CPU cores; validation rose to the end
    (44.6 % at 1 shot). half_size with --steps 24000 (40 epochs): 66 minutes on a slower machine (a second network of
    the same command, tested at 45.57 ± 0.58 % and 63.48 ± 0.55 %); half a point better at 1 shot and one at 5, 63 % of
    64 classes in training batches, validation 45.0 % and level over the last 2,000 steps. cpu: 30 minutes; the larger
    images are worth a point at 1 shot and two at 5; validation is level at 44.7 % over the last 1,200 steps, at 65 % of
    64 classes in training batches. From the network of 24,000 steps (the second of its command), in 32 minutes beside
    other work, it is 0.8 and 0.7 points better, still short of Baseline++'s figures by 1.6 and 1.1; validation 45.4 %,
    at 68 % in training batches: the longer stage at half size still pays. Both trained again (a third and a second
    time; 36 minutes at 84x84 beside three other runs) have 46.55 ± 0.59 % and 65.81 ± 0.54 %, by augmented copies at
    test 46.88 ± 0.58 % and 66.86 ± 0.53 % (with_copies.py). A fourth network of half_size --steps 24000 (31 minutes on
    a faster machine, validation 45.7 %) and 6,000 steps at 84x84 from it (36 minutes, beside other runs): validation
    46.0 %, level over the last 600 steps, at 72 % in training batches; not tested itself, R2-D2 goes on from it
    (mini_imagenet_r2d2.py). The prototypical network that half_size starts from has 42.18 ± 0.55 % and 63.36 ± 0.55 %.
    mean_half_size: 26 minutes on the slower machine; validation 44.7 %, at 54 % of 64 classes in training batches; not
    tested. mean: 43 minutes beside other work; validation 48.6 %, level over the last 400 steps, at 55 % in training
    batches: the spatial mean is worth 3 points at 1 shot and half a point at 5, and both stages of it are shorter than
    the longest with max-pool.
"""

from tools import publish

PAPER = {
    "learner": "rfs", "dataset": "mini_imagenet", "optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4,
    "meta_lr": 0.05, "batch": 64, "augment": "flip_crop", "steps": 60000, "val_every": 600, "val_episodes": 200,
}  # fmt: skip
CPU = PAPER | {"steps": 3000}
HALF_SIZE = CPU | {"image_size": 42, "meta_lr": 0.1, "steps": 9000}
MEAN = CPU | {"downsample": "mean", "steps": 4000, "val_every": 400}
MEAN_HALF_SIZE = HALF_SIZE | {"downsample": "mean"}

if __name__ == "__main__":
    settings = {
        "paper": PAPER, "half_size": HALF_SIZE, "cpu": CPU, "mean_half_size": MEAN_HALF_SIZE, "mean": MEAN,
    }  # fmt: skip
    publish("mini_imagenet_rfs", __doc__, settings)
