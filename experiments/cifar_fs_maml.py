"""Second-order MAML on CIFAR-FS, 5-way 1-shot and 5-shot.

Paper: Finn et al. 2017, arXiv 1703.03400; Bertinetto et al. 2019, arXiv 1805.08136, print 58.9 ± 1.9 % and
    71.5 ± 1.0 % (1 and 5 shots) for it with conv4-32.
Command: TFDS_DATA_DIR=... python experiments/cifar_fs_maml.py
    [--setting cpu|pretrained|from_r2d2|longer|five_shots|paper] [--out runs/cifar_fs_maml] [--init RUN] [--resume]
Setting: Bertinetto's split, 32x32x3, flips and padded crops in training, Adam cosine, seed 0; best of the validations;
    1,000 test episodes of 15 queries. cpu: conv4-32, 3 inner steps of rate 0.1 (10 at test), 10 queries, 4 tasks, 6,000
    steps. pretrained: conv4-64 from --init, the network of mtl-jax pretrain --dataset cifar_fs --optimizer sgd
    --momentum 0.9 --weight-decay 5e-4 --meta-lr 0.1 --batch 64 --steps 3000 --label-smoothing 0.1; 3 inner steps of
    rate 0.05, 2,500 steps. from_r2d2: the same from the network of R2-D2 (--init, a run of cifar_fs_r2d2.py), 2,000
    steps. longer: the same from the run of from_r2d2 and its head, rate 5e-4, 2,000 steps. five_shots: so with 5-shot
    episodes, 1,000 steps. These two were not run. paper: conv4-32, 5 inner steps of rate 0.01 on a summed loss, 0.05 on
    the mean here, 15 queries, 4 tasks, 60,000 steps, for an accelerator; not run.
Result: in docs/results.md. cpu: 18 minutes of training on one of two shared CPU cores; pretrained: 22 after 6 of
    pre-training, whose features with a new linear head have 52.47 ± 0.69 % (norm support 50.43 ± 0.68); both were
    tested at 1 shot alone. from_r2d2, from R2-D2's from_protonet and 9,000 steps more: 16 minutes, after 42 of R2-D2's
    and 34 of the prototypical network that that starts from; 64 % on training tasks and 52.6 on validation ones, level
    over the last 500 steps. The same from R2-D2's distilled, whose network a ResNet-12 has taught (61 minutes before
    it): 12 minutes beside the tests; 69 % on training tasks and 54.9 on validation ones, where it had 51.7 after 250
    steps, its best the last. paper: not run.
"""

from tools import publish

CPU = {
    "learner": "maml", "dataset": "cifar_fs", "width": 32, "ways": 5, "shots": 1, "queries": 10, "tasks": 4,
    "inner_steps": 3, "test_steps": 10, "inner_lr": 0.1, "steps": 6000, "meta_lr": 2e-3, "val_every": 500,
}  # fmt: skip
PRETRAINED = CPU | {"width": 64, "inner_lr": 0.05, "steps": 2500, "meta_lr": 1e-3, "val_every": 250}
FROM_R2D2 = PRETRAINED | {"steps": 2000}
LONGER = FROM_R2D2 | {"init_head": True, "meta_lr": 5e-4}
FIVE_SHOTS = LONGER | {"shots": 5, "steps": 1000}
PAPER = CPU | {
    "queries": 15, "inner_steps": 5, "inner_lr": 0.05, "steps": 60000, "meta_lr": 1e-3, "val_every": 1000,
}  # fmt: skip

if __name__ == "__main__":
    settings = {
        "cpu": CPU, "pretrained": PRETRAINED, "from_r2d2": FROM_R2D2, "longer": LONGER, "five_shots": FIVE_SHOTS,
        "paper": PAPER,
    }  # fmt: skip
    publish("cifar_fs_maml", __doc__, settings)
