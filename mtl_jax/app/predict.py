"""predict: what a classifier says of images, how much of it is right where that is known, and what to expect."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mtl_jax.app.classifier import Classifier, run
from mtl_jax.app.pictures import NONE, Queries
from mtl_jax.run.metrics import whole_file, wilson

NOTHING = "(none)"  # the row and column of images of none of the classes


class Prediction(NamedTuple):
    """One image's answer.

    Attributes:
        file: the image.
        label: the class it is given to; "" where none fits.
        probability: that of its likeliest class.
        second: the next likely class; the likeliest where `label` is empty.
        truth: the class that its folder names, "" for none of them; None where that is not known.
    """

    file: Path
    label: str
    probability: float
    second: str
    truth: str | None = None


class Score(NamedTuple):
    """How many predictions are right, where their truth is known.

    Attributes:
        accuracy, low, high: the share that is right, and its 95 % interval by Wilson's score.
        classes: names of the confusion matrix's rows and columns.
        confusion: [truth, prediction] numbers of images.
    """

    accuracy: float
    low: float
    high: float
    classes: tuple[str, ...]
    confusion: np.ndarray


def predict(
    classifier: Classifier, queries: Queries, temperature: float = 1.0, least: float | None = None
) -> tuple[list[Prediction], np.ndarray]:
    """Name the class of images.

    p(k | x) = softmax_k(temperature logits(x)); no class where the largest logit is below `least`

    Args:
        classifier: as `of_run`, `of_backbone` or `load_exported` gives it.
        queries: the images.
        temperature: what `estimate` found.
        least: what `threshold` found; None for a class in any case.

    Returns:
        (one Prediction per image, in their order; what was compared [n, d]).

    Raises:
        ValueError: outputs that are not finite.
    """
    logits, compared = run(classifier, queries.images)
    shares = np.asarray(jax.nn.softmax(temperature * logits.astype(np.float32), axis=-1))
    names, found = classifier.names, []
    for i, (file, p) in enumerate(zip(queries.paths, shares, strict=True)):
        best, *rest = np.argsort(-p, kind="stable")[:2]
        first, second = names[best], names[rest[0]] if rest else ""
        if least is not None and logits[i].max() < least:
            first, second = "", first
        truth = None if queries.truth is None else "" if queries.truth[i] == NONE else names[queries.truth[i]]
        found.append(Prediction(file, first, float(p[best]), second, truth))
    return found, compared


def score(predictions: Iterable[Prediction], names: Iterable[str]) -> Score | None:
    """Accuracy and confusion matrix; None where the truth is not known."""
    pairs = [(p.truth, p.label) for p in predictions if p.truth is not None]
    if not pairs:
        return None
    classes = (*names, *([""] if any("" in pair for pair in pairs) else []))
    confusion = np.zeros((len(classes), len(classes)), int)
    for truth, label in pairs:
        confusion[classes.index(truth), classes.index(label)] += 1
    right = float(np.trace(confusion) / len(pairs))
    return Score(right, *wilson(right, len(pairs)), tuple(name or NOTHING for name in classes), confusion)


def table_of(scored: Score) -> str:
    """Accuracy and confusion matrix as text; its columns are numbered where names are long."""
    total = int(scored.confusion.sum())
    shares = [f"{100 * share:.1f}" for share in scored[:3]]
    lines = ["{} % right ({} to {}) of {} images; rows are what they are, columns what was said".format(*shares, total)]
    width = max(len(name) for name in scored.classes) + 4
    cell = max(len(str(scored.confusion.max())), len(str(len(scored.classes)))) + 2
    lines.append(" " * width + "".join(f"{k + 1:>{cell}}" for k in range(len(scored.classes))))
    for k, (name, row) in enumerate(zip(scored.classes, scored.confusion, strict=True)):
        lines.append(f"{k + 1:>2} {name:<{width - 3}}" + "".join(f"{n or '.':>{cell}}" for n in row))
    return "\n".join(lines)


def as_dict(scored: Score) -> dict[str, Any]:
    """A Score as JSON has it."""
    confusion = {"classes": list(scored.classes), "counts": scored.confusion.tolist()}
    return {"accuracy": scored.accuracy, "ci95": [scored.low, scored.high], "confusion": confusion}


def write_csv(predictions: Iterable[Prediction], path: Path) -> None:
    """Write file, class, probability and second best of each prediction, in UTF-8, whole or not at all."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("file", "class", "probability", "second"))
        rows.writerows((p.file, p.label, f"{p.probability:.6f}", p.second) for p in predictions)
