"""Prototypical networks on mini-ImageNet, 5-way 1-shot and 5-shot.

Paper: Snell et al. 2017, arXiv 1703.05175, prints 49.42 ± 0.78 % (1 shot, trained on 30-way) and 68.20 ± 0.66 %
    (5 shots, trained on 20-way).
Command: python experiments/mini_imagenet_protonet.py [--setting paper|half_size|cpu|one_shot|from_rfs|mean] [--out
    runs/mini_imagenet_protonet] [--init RUN], after mtl-jax datasets prepare mini_imagenet
Setting: Ravi and Larochelle's split, 84x84x3, flips and padded crops in training, conv4-64, Adam cosine, seed 0; best
    of the validations; 1,000 test episodes of 15 queries. paper: 20-way 5-shot episodes of 15 queries, one per step,
    rate 1e-3, 40,000 steps, for an accelerator; not run. half_size: images of 42x42, 5 queries, rate 2e-3, 5,000 steps,
    four times as fast. cpu: 84x84, from the network of half_size (--init), 5 queries, rate 2e-3, 1,000 steps. one_shot:
    1-shot episodes of 5 queries, rate 5e-4, 1,000 steps from the network of cpu (--init); not run. from_rfs: 1-shot and
    5-shot episodes of 5 queries, one or the other per step, rate 5e-4, 800 steps from the network of RFS (--init, the
    run of mini_imagenet_rfs.py --setting cpu), whose squared distances, 350 to 560 on average, are multiplied by 0.03.
    mean: so from the network that ends in a spatial mean (mini_imagenet_rfs.py --setting mean), whose distances, 30 to
    42, are multiplied by 0.3.
Result: in docs/results.md; half_size 36 minutes, cpu 32 more, of one of two shared CPU cores. 3,000 steps at 84x84 from
    nothing, a third more work than the two together, gave 41.93 ± 0.55 % and 62.34 ± 0.55 % (commit e527c65). from_rfs:
    11 minutes on a faster machine, after 11 and 15 of RFS (44.8 % of its validation tasks; a second network of its
    commands); validation, 20-way, rose to the end (22.7 %), by 0.03 points over the last 200 steps. From the RFS
    network that 24,000 steps at half size precede, 23 minutes beside two tests: 44.22 ± 0.60 % and 65.39 ± 0.56 %
    (with_copies.py tested it), half a point better at 5 shots; validation was best after 600 steps, at 22.7 %. Without
    the factor 0.03 its loss was worse than chance at first, and training threw the network away (10 % after 200 steps).
    mean: 23 minutes beside other work; validation, 20-way, rose to the end (24.0, 24.3, 24.5, 24.8 %): the spatial mean
    again, with what it is worth to the network that this one starts from. Its test is of the weights as they come with
    the package (protonet-mini_imagenet, float16), on 1,000 episodes that are not those of the other networks here.
"""

from tools import publish

PAPER = {
    "learner": "protonet", "dataset": "mini_imagenet", "ways": 20, "shots": 5, "queries": 15, "tasks": 1,
    "steps": 40000, "meta_lr": 1e-3, "augment": "flip_crop", "val_every": 1000, "val_episodes": 400,
}  # fmt: skip
CPU = PAPER | {"queries": 5, "steps": 1000, "meta_lr": 2e-3, "val_every": 250, "val_episodes": 100}
HALF_SIZE = CPU | {"image_size": 42, "steps": 5000, "val_every": 500}
ONE_SHOT = CPU | {"shots": 1, "steps": 1000, "meta_lr": 5e-4}
FROM_RFS = ONE_SHOT | {"sizes": ((20, 1, 5), (20, 5, 5)), "steps": 800, "val_every": 200, "temperature": 0.03}
MEAN = FROM_RFS | {"downsample": "mean", "temperature": 0.3}

if __name__ == "__main__":
    settings = {
        "paper": PAPER, "half_size": HALF_SIZE, "cpu": CPU, "one_shot": ONE_SHOT, "from_rfs": FROM_RFS,
        "mean": MEAN,
    }  # fmt: skip
    publish("mini_imagenet_protonet", __doc__, settings)
