"""Methods with an inner loop on Omniglot, 5-way and 20-way, on conv4 with max-pool, from a prototypical network.

Papers: as in omniglot_maml.py (maml, fomaml), omniglot_reptile.py, omniglot_mamlpp.py and omniglot_meta_sgd.py. Of
    these Antoniou et al. 2019, arXiv 1810.09502 (mamlpp), pool so; MAML's and Reptile's authors have strides.
Command: TFDS_DATA_DIR=... python experiments/omniglot_max_pool.py --setting maml_5|maml_20 --init RUN
    [--out runs/omniglot_max_pool] [--resume]
Setting: Vinyals split, 28x28, four rotations as classes in training, with mirror images as classes too, each image
    turned, stretched, sheared and moved a little, conv4-64 with max-pool, 1-shot tasks of one query per class, 5 inner
    steps (10 at test), Adam cosine, seed 0, best of the validations; 1,000 test episodes of 15 queries and of as many
    as shots, upright characters. The features of a prototypical network are large: at a rate of 0.03 and 5 ways the
    inner steps diverge, at 0.01 a new head learns from them. maml_5: 8 tasks per step, inner rate 0.01, rate 1e-3,
    1,500 steps from the network of omniglot_protonet.py --setting mirrored (--init). maml_20: 20-way, 4 tasks, inner
    rate 0.05, rate 3e-4, 500 steps from the network and the head of omniglot_anil.py --setting max_pool (--init).
Result: in docs/results.md.
"""

from tools import publish

SHARED = {
    "dataset": "omniglot", "augment": "dihedral_affine", "queries": 1, "tasks": 8, "inner_steps": 5, "test_steps": 10,
    "val_every": 250, "val_episodes": 200,
}  # fmt: skip
MAML_5 = SHARED | {"learner": "maml", "inner_lr": 0.01, "steps": 1500}
MAML_20 = SHARED | {
    "learner": "maml", "ways": 20, "tasks": 4, "inner_lr": 0.05, "init_head": True, "meta_lr": 3e-4, "steps": 500,
    "val_every": 100, "val_episodes": 100,
}  # fmt: skip

if __name__ == "__main__":
    settings = {"maml_5": MAML_5, "maml_20": MAML_20}
    publish("omniglot_max_pool", __doc__, settings, ways=None, as_many=True)
