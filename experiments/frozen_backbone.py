"""A frozen ImageNet backbone, nothing trained: how far do heads fitted to each task's few examples come?

Papers: Wang et al. 2019, arXiv 1911.04623 (simpleshot, here L2N); Tian et al. 2020, arXiv 2003.11539 (rfs); Bertinetto
    et al. 2019, arXiv 1805.08136 (r2d2); Bateni et al. 2020, arXiv 1912.03432 (simple-cnaps); Boudiaf et al. 2020,
    arXiv 2008.11297 (tim); Liu et al. 2020, arXiv 1911.10713 (bdcspn).
Command: TFDS_DATA_DIR=... python experiments/frozen_backbone.py [--out runs/frozen_backbone]
Setting: lite0 (EfficientNet-Lite0, ImageNet-1k) at 128 pixels, features of length 1 times sqrt(1,280), test classes:
    the first 200 images per class of CIFAR-FS and FC100, all 20 of Omniglot's first 200; 600 episodes of 5 or 10 ways
    and 15 queries, the same for all methods, whose gap to simpleshot is paired. Norm frozen. Defaults of each method;
    what r2d2 would meta-learn stays at its start. tim and bdcspn are transductive: they use all queries at once, 15 per
    class. One CPU device.
Result: in docs/results.md. On CIFAR-FS the inductive heads are within two points
    of each other; on Omniglot at 5 shots r2d2 is 4 points above simpleshot. Leakage: most
    classes of CIFAR-100 are ImageNet's as well, or part of one, judged by their names; Omniglot's characters are not.
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np

from mtl_jax import ClassPool, Learner, datasets, evaluate, learners, models
from mtl_jax.app.features import embedder
from mtl_jax.data import pixels
from mtl_jax.run.metrics import ci95, write_json

SIZE, PER_CLASS, CLASSES, EPISODES = 128, 200, 200, 600
LEAKAGE = {"cifar_fs": "most classes seen", "omniglot": "none seen", "fc100": "most classes seen"}
NET = models.mlp(None, ())  # the features themselves
TRANSDUCTIVE = ("tim", "bdcspn")


def methods(ways: int) -> dict[str, Learner]:
    """The heads, the first of which all others are compared with."""
    return {
        "simpleshot": learners.simpleshot(NET, 2, centred=False, ways=ways), "rfs": learners.rfs(NET, 2, ways=ways),
        "r2d2": learners.r2d2(NET, ways=ways), "bdcspn": learners.bdcspn(NET, 2, ways=ways),
        "tim": learners.tim(NET, 2, ways=ways), "simple-cnaps": learners.simple_cnaps(NET, ways=ways),
    }  # fmt: skip


def features(name: str) -> tuple[ClassPool, float]:
    """The features of a data set's test classes, and images per second."""
    embed, _ = embedder("lite0")
    pool = datasets.load(name, "test", 32 if name != "omniglot" else 28, channels=3, host=True)
    labels = np.repeat(np.arange(pool.classes), np.asarray(pool.count))
    rank = np.arange(len(labels)) - np.asarray(pool.start)[labels]
    kept = (rank < PER_CLASS) & (labels < CLASSES)
    x, y = pool.x[kept], labels[kept]
    began = time.perf_counter()
    z = np.concatenate([embed(pixels.resize(x[i : i + 1024], SIZE)) for i in range(0, len(x), 1024)])
    return ClassPool.from_arrays(z * z.shape[1] ** 0.5, y), len(x) / (time.perf_counter() - began)


def main() -> None:
    """Make the features of each target, then score every method on the same episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/frozen_backbone"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    record = {"experiment": "frozen_backbone", "backbone": "lite0", "norm": "frozen", "frozen": [], "images_per_s": {}}
    for target, leakage in LEAKAGE.items():
        pool, record["images_per_s"][target] = features(target)
        for ways, shots in ((5, 1), (5, 5), (10, 1), (10, 5)):
            base = None
            for name, learner in methods(ways).items():
                theta = learner.init(jax.random.key(0), pool.x[:1])
                size = {"ways": ways, "shots": shots, "queries": 15, "episodes": EPISODES}
                seen = evaluate(learner, theta, pool, jax.random.key(1), **size)
                base = seen.per_episode if base is None else base
                gap = seen.per_episode - base
                row = {"method": name, "target": target, "leakage": leakage, "transductive": name in TRANSDUCTIVE}
                row |= size | {"accuracy": seen.accuracy, "ci95": seen.ci95, "ece": seen.ece}
                record["frozen"].append(row | {"gap": float(gap.mean()), "gap_ci95": ci95(gap)})
                print(f"{target} {ways} {shots} {name}: {100 * seen.accuracy:.2f} ± {100 * seen.ci95:.2f}", flush=True)
        write_json(args.out / "result.json", record)


if __name__ == "__main__":
    main()
