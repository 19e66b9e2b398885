"""From printed letters to handwriting: trained on glyphs, tested on Omniglot and digits, which training never saw.

Command: TFDS_DATA_DIR=... python experiments/glyphs_to_omniglot.py [--steps 1200] [--out runs/glyphs_to_omniglot]
Setting: ProtoNet, conv4-32, 60-way 1-shot episodes of 5 queries, one a step, four rotations as classes in training,
    Adam 2e-3 cosine, seed 0; 5-way 1-shot, 1,000 test episodes of 15 queries on each target's test classes, upright.
Result: norm transductive (support): glyphs 95.64 ± 0.35 % (95.07 ± 0.36), omniglot 95.84 ± 0.29 % (95.14 ± 0.32),
    digits 80.40 ± 0.57 % (78.89 ± 0.58); 26 minutes of training on one of two shared CPU cores.
"""

from tools import publish

CPU = {
    "learner": "protonet", "dataset": "glyphs", "width": 32, "ways": 60, "shots": 1, "queries": 5, "tasks": 1,
    "steps": 1200, "meta_lr": 2e-3, "val_every": 300,
}  # fmt: skip

if __name__ == "__main__":
    publish("glyphs_to_omniglot", __doc__, {"cpu": CPU}, targets=("glyphs", "omniglot", "digits"), shots=(1,))
