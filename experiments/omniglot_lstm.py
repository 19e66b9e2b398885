"""The LSTM meta-learner on Omniglot, 5-way.

Paper: Ravi and Larochelle 2017, OpenReview rJY0-Kcll; no figure of it on Omniglot was ever published.
Command: TFDS_DATA_DIR=... python experiments/omniglot_lstm.py [--setting
    paper|cpu|from_maml|from_protonet|as_maml] [--out runs/omniglot_lstm] [--init RUN] [--resume]
Setting: Vinyals split, 28x28, four rotations as classes in training, conv4 with stride 2, one task per step, Adam
    cosine, gates at ten times the outer rate, seed 0, best of the validations; 1,000 test episodes of 15 queries and of
    as many as shots, upright characters. paper: width 32, 12 inner steps, 15 queries, rate 1e-3, 75,000 steps, for an
    accelerator; not run. cpu: width 32, 5 inner steps, 5 queries, rate 2e-3, 75,000 steps; not run. from_maml: width
    64, 5 inner steps, 5 queries, 4 tasks per step, rate 1e-3, 3,000 steps from the network of MAML (--init
    maml-omniglot, the weights that come with the package; its head is not taken). from_protonet: the same for 1,600
    steps from the network of a prototypical network (--init, the run of omniglot_protonet.py --setting stride), each
    training image turned, stretched, sheared and moved a little. as_maml: so from the network of MAML and its head
    (--init maml-omniglot), with gates that start as its gradient descent (rate 0.4), 3 inner steps, rate 3e-4, 1,000
    steps.
Result: in docs/results.md. as_maml: 20 minutes of training on one of two shared CPU cores, beside other work. Its
    start, gates at rest at MAML's rate, has 96.1 % of validation tasks (5 queries); after 700 steps it has 96.2, the
    best: what the learned gates add to MAML is small. With a new head in place of MAML's it starts at 69.9. from_maml
    was begun and not finished: after 2,000 steps, 57 minutes, it has 96 % on training tasks and 90 on validation ones,
    level from step 1,500 on. from_protonet: not run.
"""

from tools import publish

PAPER = {
    "learner": "lstm", "dataset": "omniglot", "downsample": "stride", "width": 32, "inner_steps": 12, "queries": 15,
    "tasks": 1, "meta_lr": 1e-3, "steps": 75000, "val_every": 2500, "val_episodes": 300,
}  # fmt: skip
CPU = PAPER | {"inner_steps": 5, "queries": 5, "meta_lr": 2e-3}
FROM_MAML = CPU | {"width": 64, "tasks": 4, "meta_lr": 1e-3, "steps": 3000, "val_every": 250}
FROM_PROTONET = FROM_MAML | {"augment": "rotations_affine", "steps": 1600, "val_every": 200}
AS_MAML = FROM_PROTONET | {
    "init_head": True, "inner_steps": 3, "inner_lr": 0.4, "meta_lr": 3e-4, "steps": 1000, "val_every": 100,
}  # fmt: skip

if __name__ == "__main__":
    settings = {"paper": PAPER, "cpu": CPU, "from_maml": FROM_MAML, "from_protonet": FROM_PROTONET, "as_maml": AS_MAML}
    publish("omniglot_lstm", __doc__, settings, ways=None, as_many=True)
