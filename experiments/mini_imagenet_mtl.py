"""Meta-transfer learning on mini-ImageNet, 5-way 1-shot and 5-shot: does it help beside its own pre-trained conv4?

Paper: Sun et al. 2019, arXiv 1812.02391, prints figures for a ResNet-12 alone (60.2 ± 1.8 %).
Command: python experiments/mini_imagenet_mtl.py [--setting cpu|half_size|mean|mean_five_shots] --init RUN
    [--seeds 0 1 2] [--out runs/mini_imagenet_mtl], after mtl-jax datasets prepare mini_imagenet. It goes on where it
    stopped.
Setting: Ravi and Larochelle's split, flips and padded crops in training, conv4-64. Everything starts from one network
    pre-trained with all 64 source classes (--init, the run of mini_imagenet_rfs.py with the same setting). Baselines,
    nothing of the network changed: for each task a logistic regression on features of length 1 (baseline) and a linear
    head by 100 steps (linear head). mtl: scales and shifts and the head, tasks of 15 queries, inner rate 0.03, outer
    rate 5e-3 (scales and shifts a tenth), cosine, best of the validations, three seeds. 1,000 test episodes of 15
    queries, the same for all: an interval is that of the episodes' means over seeds, a gap is paired episode by
    episode. Norm transductive. cpu: 84x84, 2 tasks per step, 300 steps. half_size: images of 42x42, 4 tasks per step,
    600 steps. mean: as cpu, on the network that ends in a spatial mean, 20 inner steps of rate 0.1 in training and at
    test, classes turned by 90, 180 and 270 degrees as classes too, which the network has not seen, 4 tasks of 5 queries
    per step, outer rate 3e-4, 150 steps. mean_five_shots: the same steps of 2 tasks of 5 shots and 15 queries, without
    turned classes, outer rate 1e-3, from the network of setting mean. All but half_size have a row of mtl at its start,
    untrained.
Result: in docs/results.md. half_size: 7 to 13 minutes of training per seed on one of two shared CPU cores, beside other
    work: no gain. mtl is level with its network's linear head and a third of a point below the logistic one; training
    tasks rise from 51.6 to 55 %, validation ones end at 44, and the weights move by factors of 2 %.
    mean_five_shots: 8 to 11 minutes per seed. mtl is 0.6 points above both baselines, and 0.7 before training: its
    inner rule, 20 steps of plain SGD, is what gains, and 300 tasks of training cost 0.10 ± 0.09 points. Of seed
    0's 100 validation tasks the start has 64.2 %, and 64.0 after 50 to 150 steps. Higher outer rates lose more: 62.9 to
    63.0 by 5e-3 (scales and shifts 1e-3) after 75 to 225 steps, 63.5 after 75 with the head held where it starts.
    mean: 4 minutes per seed. At 1 shot there is no gain: mtl is 0.66 ± 0.23 points below its network's logistic
    baseline, 0.19 ± 0.10 above its linear head, and training adds 0.04 ± 0.08 to where it starts. Of seed 0's 200
    validation tasks the start has 48.6 % and the logistic baseline 49.0; at an outer rate of 1e-3 it has 48.6, 48.5 and
    48.4 after 50, 100 and 150 steps, without turned classes 48.4, 48.3 and 48.2; inner rates of 0.05 and 0.2 have 47.2
    and 47.1 of 200 other tasks untrained, 0.1 has 47.3. cpu: not run.
"""

from paired import publish_from_one

MTL = {
    "learner": "mtl", "dataset": "mini_imagenet", "augment": "flip_crop", "shots": 1, "queries": 15, "tasks": 2,
    "inner_lr": 0.03, "meta_lr": 5e-3, "steps": 300, "val_every": 100, "val_episodes": 100,
}  # fmt: skip
HALF_SIZE = MTL | {"image_size": 42, "tasks": 4, "steps": 600, "val_episodes": 200}
MEAN = MTL | {
    "downsample": "mean", "augment": "rotations_flip_crop", "queries": 5, "tasks": 4, "inner_lr": 0.1,
    "inner_steps": 20, "test_steps": 20, "meta_lr": 3e-4, "steps": 150, "val_every": 50, "val_episodes": 200,
}  # fmt: skip
MEAN_FIVE_SHOTS = MEAN | {
    "shots": 5, "augment": "flip_crop", "queries": 15, "tasks": 2, "meta_lr": 1e-3, "val_episodes": 100,
}  # fmt: skip
SETTINGS = {"cpu": MTL, "half_size": HALF_SIZE, "mean": MEAN, "mean_five_shots": MEAN_FIVE_SHOTS}

if __name__ == "__main__":
    publish_from_one("mini_imagenet_mtl", __doc__, SETTINGS, {"mtl": {}})
