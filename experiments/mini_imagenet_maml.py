"""Second-order MAML on mini-ImageNet, 5-way 1-shot and 5-shot.

Paper: Finn, Abbeel and Levine 2017, arXiv 1703.03400, prints 48.70 ± 1.84 % and 63.11 ± 0.92 % (1 and 5 shots).
Command: python experiments/mini_imagenet_maml.py [--setting paper|cpu|mean|slow] [--out runs/mini_imagenet_maml]
    [--init RUN] [--resume], after mtl-jax datasets prepare mini_imagenet. --init for cpu is the run of mtl-jax pretrain
    --dataset mini_imagenet --image-size 42 --width 32 --optimizer sgd --momentum 0.9 --weight-decay 5e-4 --meta-lr 0.1
    --batch 64 --steps 6000 --val-every 1000; for mean so with --downsample mean, then 2,500 steps more from it at
    84x84: --augment flip_crop --meta-lr 0.05 --steps 2500 --val-every 500 --init RUN; for slow so with 24,000 and
    6,000 steps in place of 6,000 and 2,500.
Setting: Ravi and Larochelle's split, 84x84x3, flips and padded crops in training, conv4-32, 4 tasks per step, Adam
    cosine, seed 0; best of the validations; 1,000 test episodes of 15 queries, 10 inner steps at test. paper: 5 inner
    steps of rate 0.01 on a loss summed over the ways, 0.05 on the mean here, 15 queries, 60,000 steps, for an
    accelerator; not run. cpu: 3 inner steps of rate 0.05, 10 queries, 2,000 steps from the network of a pre-training
    with all 64 source classes (--init). mean: with the spatial mean of the last block's maps in place of its max-pool,
    5 inner steps of rate 0.1, Adam 5e-4, 1,500 steps from a network pre-trained so at 84x84. slow: so at Adam 5e-5,
    400 steps, from a network pre-trained for longer.
Result: in docs/results.md. cpu: 27 minutes of training on one of two shared CPU cores, after 4 of pre-training (39.8 %
    of validation tasks); 52 % on training tasks by the end, 41.6 on validation ones, level over the last 500 steps;
    8,000 tasks in all, where the paper has 240,000. mean with --steps 800: 24 minutes beside other work, after 26 of
    pre-training, which has 44.7 % of validation tasks by a logistic regression; 53 % on training tasks throughout, 41.3
    on 100 validation ones, rising slowly to the end. Of 100 others it has 43.1 ± 2.2 %, the pre-trained network with a
    new head by 20 steps of that rate 42.4 ± 2.0 before training, by 20 of rate 0.3 41.9 ± 2.0. It is 1.3 points better
    than cpu at 1 shot; 5 shots were not tested. slow: 14 minutes beside other work, after 63 of pre-training (45.3 % of
    validation tasks by a logistic regression; 43.1 after the 24,000 steps at 42x42). Of the 100 validation tasks of
    training its start, untrained with a new head, has 43.6 %; so has it after 100 steps, the best, and 43.5 from then
    on; by the rate of mean it has 42.4 and 42.6 after 250 and 500 steps, where it was broken off: what a higher outer
    rate learns of the source classes costs the others. The best at both shots, of one network that is trained at 1:
    46.51 ± 0.64 and 63.11 ± 0.57 % with 15 queries; with as many as shots, as the paper tests, 48.20 ± 1.50 and 63.96
    ± 0.73, both within its intervals.
"""

from tools import publish

PAPER = {
    "learner": "maml", "dataset": "mini_imagenet", "width": 32, "augment": "flip_crop", "queries": 15, "tasks": 4,
    "inner_steps": 5, "test_steps": 10, "inner_lr": 0.05, "steps": 60000, "val_every": 1000,
}  # fmt: skip
CPU = PAPER | {"queries": 10, "inner_steps": 3, "steps": 2000, "val_every": 250, "val_episodes": 100}
MEAN = CPU | {"downsample": "mean", "inner_steps": 5, "inner_lr": 0.1, "meta_lr": 5e-4, "steps": 1500}
SLOW = MEAN | {"meta_lr": 5e-5, "steps": 400, "val_every": 100}

if __name__ == "__main__":
    publish("mini_imagenet_maml", __doc__, {"paper": PAPER, "cpu": CPU, "mean": MEAN, "slow": SLOW})
