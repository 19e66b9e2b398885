"""Meta-transfer over a frozen ImageNet backbone: scales, shifts, factors or adapters learned on tasks of one domain.

Papers: Sun et al. 2019, arXiv 1812.02391 (mtl: scale_shift); Perez et al. 2018, arXiv 1709.07871 (film); Li et al.
    2022, arXiv 2107.00358 (tsa, and the form of mtl's adapters); Wang et al. 2019, arXiv 1911.04623 (simpleshot, here
    L2N); Tian et al. 2020, arXiv 2003.11539 (rfs). None of them prints these episodes.
Command: TFDS_DATA_DIR=... python experiments/meta_transfer.py [--sources omniglot]
    [--more "spoken digits=wav:recordings?test=theo,yweweler&val=nicolas" textures=folder:images]
    [--out runs/meta_transfer]. It goes on where it stopped.
Setting: lite0 (EfficientNet-Lite0, ImageNet-1k) at 128 pixels, its maps after block 13 made once; blocks 14 and 15 and
    the last layer over them are what mtl changes, frozen weights otherwise, and what a task may change in full
    fine-tuning, tsa and pmf. mtl is meta-trained on 400 of Omniglot's training characters: 200 steps of 4 tasks of 5
    ways, 5 shots and 5 queries; head: SGD at 0.3 on features of length 10, 20 steps (100 at test), order 2; outer rule:
    Adam at 2e-3, adapters at 2e-4, cosine. "mtl none" is the same head rule without transfer, its head's start
    meta-trained alike. The head's rate was chosen on Omniglot's training characters, and so was Adam's 1e-3 of full
    fine-tuning (of 1e-4 and 1e-3); tsa and pmf have their defaults, but 20 steps, and pmf no choice of its rate. 600
    test episodes of 15 queries, the same for all methods, of which full fine-tuning, tsa and pmf take the first 60. One
    network per row, seed 0. Spoken digits are log-mel pictures of two speakers (free-spoken-digit-dataset); textures
    are pan8915/DeepTexture's ten classes, a part of DTD.
Result: in docs/results.md. On drawings that ImageNet has not seen, mtl's transfer is above the same head rule
    without it at 5 shots: scale_shift by 2.2 to 2.7 points, adapters by 2.5 to 7.0; on spoken digits scale_shift by
    0.6; on photographs and textures none is, and adapters lose 1.6 to 2.1. Full fine-tuning on each task's support set
    was run on glyphs and spoken digits alone, at 5 shots: 6.3 and 4.4 above that head, on spoken digits more than any
    transfer, at the cost of 20 passes through the network per task; tsa there is above simpleshot, not above that head.
    pmf was not run.
Leakage: ImageNet's classes are no characters, digits or sounds; some are things that the textures are of (honeycomb,
    spider web), and most of CIFAR-100's classes are among them, or part of one, judged by their names. Omniglot's test
    characters are none that mtl was trained on, but of the same kind.
"""

import argparse
from itertools import product
from pathlib import Path

import jax
import optax
import over_backbone as shared

from mtl_jax import learners, models
from mtl_jax.run.backend import configure_cpu
from mtl_jax.run.optimizer import meta_optimizer, multiply_updates

SPLIT, LENGTH, EPISODES, FEW = ("lite0", 13), 10.0, 600, 60  # FEW: where every task passes through the network often
SIZE, HEAD = {"ways": 5, "shots": 5, "queries": 5, "tasks": 4}, {"inner_lr": 0.3, "inner_steps": 20}
# Per target: split, images per class and classes at most, and which of its classes ImageNet has (probably) seen.
TARGETS = {
    "omniglot": ("test", 20, 200, "none"), "glyphs": ("test", 20, 200, "none"), "digits": ("test", 100, 10, "none"),
    "spoken digits": ("test", 100, 10, "none"), "textures": ("all", 120, 10, "no class, some kinds of thing"),
    "fc100": ("test", 100, 20, "most"), "cifar_fs": ("test", 100, 20, "most"),
}  # fmt: skip
SOURCES = {"omniglot": (20, 400), "glyphs": (20, 400), "cifar_fs": (100, 64)}  # images per class and classes at most
SLOWER = {"none": {}, "scale_shift": {}, "film": {}, "adapters": {"adapters": 0.1}}  # Adam at 2e-3 otherwise
AGAINST = {"over_simpleshot": "simpleshot", "over_baseline": "mtl none from {source}"}
ABOUT = {"experiment": "meta_transfer", "norm": "frozen", "hardware": "two shared CPU cores"}


def main() -> None:
    """Make the maps, meta-train each kind of transfer, score all methods; the record is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", choices=tuple(SOURCES), nargs="+", default=["omniglot"])
    parser.add_argument("--more", nargs="*", default=[], help="NAME=DATASET of targets that are no named data sets")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs/meta_transfer"))
    args = parser.parse_args()
    configure_cpu()
    places = {k: k for k in TARGETS if " " not in k and k != "textures"} | dict(m.split("=", 1) for m in args.more)
    maps, scores = args.out / "maps", args.out / "scores"
    named = {k: shared.maps_of(maps / f"{k}-test.npz", *SPLIT, v, *TARGETS[k][:3]) for k, v in places.items()}
    net, params = models.pretrained(SPLIT[0], after=SPLIT[1])
    whole = shared.of_length(models.pretrained(SPLIT[0], 5, after=SPLIT[1])[0], LENGTH)
    key, leakage = jax.random.key(0), {target: about[3] for target, about in TARGETS.items()}

    def keep(name: str, *task: object) -> None:
        shared.score(scores, name, *task)
        shared.write_record(args.out, ABOUT | {"steps": args.steps}, leakage, AGAINST, args.sources[0])

    frozen = shared.features_of(net, params, named)
    heads = {"simpleshot": learners.simpleshot(shared.as_they_are(), 2, centred=False, ways=5)}
    for name, learner in (heads | {"rfs": learners.rfs(shared.as_they_are(), 2, ways=5)}).items():
        keep(name, learner, learner.init(key, frozen["omniglot"].x[:1]), frozen, EPISODES)
    alone = learners.mtl(shared.as_they_are(5), transfer="none", **HEAD)
    for source, transfer in product(args.sources, SLOWER):
        if not shared.is_scored(scores, name := f"mtl {transfer} from {source}", named):
            pool = shared.maps_of(maps / f"{source}-train.npz", *SPLIT, source, "train", *SOURCES[source])
            learner = learners.mtl(whole, transfer=transfer, **HEAD)
            rule = multiply_updates(meta_optimizer(2e-3, args.steps), SLOWER[transfer])
            theta = shared.meta_train(learner, pool, args.out / f"{source}-{transfer}", rule, **SIZE, steps=args.steps)
            moved = shared.features_of(shared.of_length(net, LENGTH), shared.body_of(learner, theta, pool), named)
            keep(name, alone, {"frozen": {}, "head": theta["head"]}, moved, EPISODES)
    far = {target: pool for target, pool in named.items() if leakage[target] == "none"}
    for name, learner in {
        "full fine-tuning": learners.maml(whole, inner_steps=20, order=1, inner_optimizer=optax.adam(1e-3)),
        "tsa": learners.tsa(net, 2, inner_steps=20, ways=5),
        "pmf": learners.pmf(net, test_steps=20, rate_choices=0, ways=5),
    }.items():
        keep(name, learner, learner.init(key, named["omniglot"].x[:1]), far, FEW, 1)


if __name__ == "__main__":
    main()
