"""MAML++, with a learned rate for every layer and inner step, on Omniglot, 5-way and 20-way.

Paper: Antoniou, Edwards and Storkey 2019, arXiv 1810.09502, prints 99.47 % and 99.93 % (5-way, 1 and 5 shots) and
    97.65 % and 99.33 % (20-way), for the 5 best checkpoints together.
Command: TFDS_DATA_DIR=... python experiments/omniglot_mamlpp.py [--setting paper|cpu|affine|with_head|twenty_ways]
    [--out runs/omniglot_mamlpp] [--init RUN] [--resume]
Setting: Vinyals split, 28x28, four rotations as classes in training, one query per class, 5 inner steps, Adam 1e-3
    cosine, seed 0, the 5 best of the validations kept; 1,000 test episodes of 15 queries and of as many as shots,
    upright characters. paper: conv4-64 with max-pool, 8 tasks, rates of 0.1 at the start, 50,000 steps, for an
    accelerator; not run. cpu: conv4-64 with stride 2, 8 tasks, rates of 0.2 at the start, 8,000 steps from the network
    of MAML (--init maml-omniglot, the weights that come with the package; its head is not taken). affine: the same,
    with each training image turned, stretched, sheared and moved a little. with_head: as affine, with MAML's head too,
    at a rate of 3e-4, 5,000 steps. twenty_ways: 20-way, 4 tasks, the same maps, with mirror images as classes too, from
    the network of ANIL and its head (--init, the run of omniglot_anil.py --setting mirrored), rate 1e-4, 1,000 steps,
    the best checkpoint alone. The paper's normalisation with moments, scales and shifts of its own for each inner step
    is not here.
Result: in docs/results.md. affine: 37 minutes of training on one of two shared CPU cores, beside other work; 98 % on
    training tasks, 97.7 on validation ones, rising to the end. with_head: 19 minutes; 98.2 to 98.5 % on training tasks
    and 98.5 to 98.7 on validation ones throughout, the five checkpoints together 0.2 points above the best: as good as
    the network of MAML that it starts from (98.62 % by the paper's protocol), not better. twenty_ways: 14 minutes,
    beside two other runs; 90 % on training tasks and 85.7 on validation ones (82.6 after 250 steps), rising to the end,
    below ANIL's network that it starts from, which has 91.68 % of the test's 15 queries (87.69 here) by 50 steps of its
    head. cpu: not run.
"""

from tools import publish

PAPER = {
    "learner": "mamlpp", "dataset": "omniglot", "inner_lr": 0.1, "inner_steps": 5, "queries": 1, "tasks": 8,
    "steps": 50000, "val_every": 500, "val_episodes": 500, "keep_best": 5,
}  # fmt: skip
CPU = PAPER | {"downsample": "stride", "inner_lr": 0.2, "steps": 8000}
AFFINE = CPU | {"augment": "rotations_affine"}
WITH_HEAD = AFFINE | {"init_head": True, "meta_lr": 3e-4, "steps": 5000}
TWENTY_WAYS = WITH_HEAD | {
    "augment": "dihedral_affine", "ways": 20, "tasks": 4, "meta_lr": 1e-4, "steps": 1000, "val_every": 250,
    "val_episodes": 100, "keep_best": 1,
}  # fmt: skip

if __name__ == "__main__":
    settings = {"paper": PAPER, "cpu": CPU, "affine": AFFINE, "with_head": WITH_HEAD, "twenty_ways": TWENTY_WAYS}
    publish("omniglot_mamlpp", __doc__, settings, ways=None, as_many=True)
