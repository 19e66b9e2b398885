"""Prototypical networks on mini-ImageNet, 5-way 1-shot and 5-shot.

Paper: Snell et al. 2017, arXiv 1703.05175, prints 49.42 ± 0.78 % (1 shot, trained on 30-way) and 68.20 ± 0.66 %
    (5 shots, trained on 20-way).
Command: python experiments/mini_imagenet_protonet.py [--setting cpu|one_shot|paper]
    [--out runs/mini_imagenet_protonet] [--init RUN], after mtl-jax datasets prepare mini_imagenet
Setting: Ravi and Larochelle's split, 84x84x3, flips and padded crops in training, conv4-64, Adam cosine, seed 0; best
    of the validations; 1,000 test episodes of 15 queries. cpu: 20-way 5-shot episodes of 5 queries, one per step, 3,000
    steps. one_shot: 20-way 1-shot episodes of 5 queries, 1,000 steps from the network of --init. paper: 20-way 5-shot,
    15 queries, 40,000 steps, for an accelerator; not run.
Result: in docs/results.md.
"""

from tools import publish

CPU = {
    "learner": "protonet", "dataset": "mini_imagenet", "ways": 20, "shots": 5, "queries": 5, "tasks": 1, "steps": 3000,
    "meta_lr": 2e-3, "augment": "flip_crop", "val_every": 250, "val_episodes": 100,
}  # fmt: skip
ONE_SHOT = CPU | {"shots": 1, "steps": 1000, "meta_lr": 5e-4}
PAPER = CPU | {"queries": 15, "steps": 40000, "meta_lr": 1e-3, "val_every": 1000, "val_episodes": 400}

if __name__ == "__main__":
    publish("mini_imagenet_protonet", __doc__, {"cpu": CPU, "one_shot": ONE_SHOT, "paper": PAPER})
