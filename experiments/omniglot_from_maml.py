"""Methods with an inner loop on Omniglot, 5-way, from the network of MAML and its head.

Papers: Nichol et al. 2018, arXiv 1803.02999 (reptile), prints 97.68 ± 0.04 % and 99.48 ± 0.06 % (1 and 5 shots);
    Rajeswaran et al. 2019, arXiv 1909.04630 (imaml), prints 99.50 ± 0.26 % and 99.74 ± 0.11 %. No figure of this is in
    that of Oh et al. 2021, arXiv 2008.08882 (boil).
Command: TFDS_DATA_DIR=... python experiments/omniglot_from_maml.py --setting imaml|boil|reptile [--init maml-omniglot]
    [--out runs/omniglot_from_maml] [--resume]
Setting: Vinyals split, 28x28, four rotations as classes in training, each image turned, stretched, sheared and moved a
    little, conv4-64 with stride 2, 5 queries, Adam 3e-4 cosine, seed 0 unless said, best of the validations; 1,000 test
    episodes of 15 queries and of as many as shots, upright characters. The network and its head are those of --init
    (maml-omniglot, weights that come with the package). imaml: 8 tasks, 5 inner steps of rate 0.2. boil: 16 tasks, 1
    inner step of rate 0.4 (3 at test). reptile: 5 tasks of 10 images per class, 5 inner steps of 10 images, SGD of rate
    0.3 (50 at test), outer rate 0.2 falling to 0 linearly.
Result: in docs/results.md. imaml and boil: 5 and 6 minutes of training on one of two shared CPU cores, after the 66 of
    MAML; 96 % on training tasks with both, validation level from step 500 on at 96.1 to 96.3: they keep what they start
    from (MAML's own 98.62 ± 0.37 % at 1 shot, by the paper) and do not gain on it. imaml with --steps 1500 --seeds 0 1
    2, 6 minutes each, has as much; its seeds differ by 0.18 points at most. reptile: 11 minutes, beside other work;
    untrained, its own test on that network and head has 98.1 % of 300 validation tasks by the paper's protocol at 1
    shot and 98.5 at 5; validation, by 15 queries, rose from 95.4 after 250 steps to 96.1 after 2,500, level from there
    on. Its paper's figure is reached at 1 shot; at 5 it is half a point below.
"""

from tools import publish

SHARED = {
    "dataset": "omniglot", "augment": "rotations_affine", "downsample": "stride", "queries": 5, "meta_lr": 3e-4,
    "steps": 3000, "init": "maml-omniglot", "init_head": True, "val_every": 250, "val_episodes": 300,
}  # fmt: skip
IMAML = SHARED | {"learner": "imaml", "tasks": 8, "inner_steps": 5, "inner_lr": 0.2}
BOIL = SHARED | {"learner": "boil", "tasks": 16, "inner_steps": 1, "inner_lr": 0.4, "test_steps": 3}
REPTILE = SHARED | {
    "learner": "reptile", "tasks": 5, "queries": 9, "inner_steps": 5, "inner_lr": 0.3, "batch": 10, "meta_lr": 0.2,
}  # fmt: skip

if __name__ == "__main__":
    publish("omniglot_from_maml", __doc__, {"imaml": IMAML, "boil": BOIL, "reptile": REPTILE}, as_many=True)
