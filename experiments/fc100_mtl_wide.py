"""Meta-transfer learning on FC100 by a ResNet-12 of 64-128-256-512: does it help, and do hard tasks?

Paper: Sun et al. 2019, arXiv 1812.02391, prints 45.1 ± 1.8 % (1 shot) with hard tasks; its authors' code 43.6 ± 1.8 and
    55.4 ± 0.9 % (1 and 5 shots) without, by the widths 64-160-320-640.
Command: TFDS_DATA_DIR=... python experiments/fc100_mtl_wide.py [--setting one_shot|five_shots] --init RUN
    [--seeds 0 1 2] [--out runs/fc100_mtl_wide]. It goes on where it stopped. RUN is that of mtl-jax pretrain --dataset
    fc100 --model resnet12 --width 64 --optimizer sgd --momentum 0.9 --weight-decay 5e-4 --meta-lr 0.1 --batch 64
    --steps 4000 --label-smoothing 0.1 --val-every 500 --val-episodes 100 and then of the same with --meta-lr 0.05
    --steps 2500 --init of the first.
Setting: Oreshkin's split, 32x32x3, flips and padded crops in training. Everything of a setting starts from one network
    pre-trained with all 60 source classes, 6,500 batches of 64 (11 epochs) in two goes, each with a cosine of its own.
    Baselines, nothing of the network changed: for each task a logistic regression on features of length 1 (baseline)
    and a linear head by 100 steps (linear head). mtl: scales and shifts and the head, 2 tasks per step, 15 queries, 300
    steps, inner rate 0.1, outer rate 5e-3 (scales and shifts a tenth), cosine, best of the validations, three seeds.
    Hard tasks as in the paper's section 4.3: every so many random steps one of the classes that those failed on. 1,000
    test episodes of 15 queries, the same for all: an interval is that of the episodes' means over seeds, a gap is
    paired episode by episode. A run has a row of mtl at its start, untrained, which these records are older than. Norm
    transductive. CIFAR-100 holds one image twice, in a training and in a test class of this split.
Result: in docs/results.md. At 1 shot and at 5 the network as it is, under a logistic regression, is the best; mtl gains
    on its own linear head at 1 shot alone, and hard tasks gain nothing on random ones. At 1 shot mtl has 77 to 82 % on
    source tasks, where the network has seen every class, and 34 to 36 on validation ones from step 100 on; at 5 shots
    89 to 91 % and 50 to 51. one_shot: pre-training took 89 and 57 minutes on one of two shared CPU cores; 70 % of the
    60 classes in training batches after the first, 79 after the second, 36.2 % of validation tasks after both; its
    logistic baseline 40.17 ± 0.58 % after the first; mtl 17 minutes of training for each seed and kind. five_shots
    starts from a second network of the same two commands, on a faster machine: 49 and 30 minutes, 70 and 78 % in
    training batches, 36.8 % of validation tasks after either; mtl 12 to 16 minutes. A third network had 10,500 batches
    (17 epochs) with colours changed too (--augment flip_crop_colours): 5,000 at 24 pixels at a constant rate of 0.1,
    5,500 at 32 with a cosine from 0.1, 34 minutes and more than an hour on a faster machine. It has 84 % in training
    batches and 36.9 ± 1.2 % of 200 validation tasks; its logistic baseline at 1 shot is 40.63 ± 0.60 %, so that mtl was
    not trained from it: more batches, and other colours, are not what is missing. A fourth started as the third did,
    from the same 5,000 batches, and had 3,500 more in place of 5,500, half of their loss the third's outputs
    (--teacher, without label smoothing or colours): 57 minutes, 84 % in training batches; under the logistic regression
    it has 36.2 ± 0.7 % of 600 validation tasks, as many as the third: so trained, a network is no better, only sooner
    as good.
"""

from paired import publish_from_one

ONE_SHOT = {
    "learner": "mtl", "dataset": "fc100", "model": "resnet12", "width": 64, "queries": 15, "tasks": 2,
    "meta_lr": 5e-3, "steps": 300, "val_every": 100, "val_episodes": 100,
}  # fmt: skip

if __name__ == "__main__":
    settings = {"one_shot": ONE_SHOT, "five_shots": ONE_SHOT | {"shots": 5}}
    publish_from_one("fc100_mtl_wide", __doc__, settings, {"mtl": {}, "mtl hard-tasks": {"hard_tasks": True}})
