"""predict: adapt a trained run, or a frozen backbone, to a folder of labelled images, and name the class of others."""

import csv
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.app.features import embedder, inputs_of
from mtl_jax.app.methods import build_learner, find_method
from mtl_jax.app.settings import Settings
from mtl_jax.data import images
from mtl_jax.run.metrics import whole_file
from mtl_jax.types import Array, PyTree

BATCH = 256  # query images at a time
TEMPERATURES = tuple(2.0**k for k in range(8))  # among which a backbone's probabilities are calibrated

log = logging.getLogger(__name__)


class Prediction(NamedTuple):
    """One image's file, the class it is given to with its probability, and the next likely class."""

    file: Path
    label: str
    probability: float
    second: str


class Expected(NamedTuple):
    """How a backbone does inside the support set, each image by the means of the others: accuracy, interval, images."""

    accuracy: float
    low: float
    high: float
    images: int


def predict(
    settings: Settings, theta: PyTree, support: Path, query: Sequence[Path], invert: bool = False
) -> list[Prediction]:
    """Adapt to the classes of a folder, then classify images.

    Args:
        settings: the run's; under norm="transductive" all query images are one batch, whose moments each uses, so that
            the answer for one image depends on which others are asked for; under "support" each is on its own.
        theta: the run's meta-learned parameters.
        support: one sub-folder of images per class; classes may differ in size.
        query: image files, or one folder of them.
        invert: turn dark ink on light ground into the light on dark that glyphs and omniglot have.

    Returns:
        One Prediction per image that could be read, in the order of `query` (in a folder, of the names).

    Raises:
        FileNotFoundError: a folder or file does not exist.
        ValueError: a class without a readable image, no readable query, ways that the run's head does not have, or a
            network whose outputs are not finite.
    """
    side, channels, inputs = inputs_of(settings)
    known, asked = _read(support, query, side, channels)
    learner = build_learner(settings, len(known.names))

    def pixels(x: np.ndarray) -> Array:
        return inputs(255 - x if invert else x)

    phi = learner.adapt(theta, pixels(known.images), jnp.asarray(known.labels))
    together = settings.network.norm == "transductive" or find_method(settings.learner).transductive
    batch = len(asked.paths) if together else BATCH
    return _named(lambda x: learner.predict(theta, phi, pixels(x)), asked, known.names, batch)


def predict_frozen(
    backbone: str, support: Path, query: Sequence[Path], image_size: int | None = None
) -> tuple[list[Prediction], Expected | None]:
    """Classify images by the nearest mean of a frozen backbone's features; nothing is trained.

    c_k = mean of u(x) over the support of class k, u(x) = f(x) / ||f(x)||;  p(k | x) = softmax_k(-t ||u(x) - c_k||^2)

    The temperature t is the one under which the support set itself is most likely, each image left out of its own
    class's mean in turn; so is the accuracy to expect. Where no class has two images, t is 8.

    Args:
        backbone: a name, or a file of weights, as `pretrained` takes it.
        support, query: as in `predict`.
        image_size: pixels of a side; what the backbone expects unless given.

    Returns:
        (one Prediction per image that could be read; what to expect, or None where no class has two images).

    Raises:
        FileNotFoundError, ValueError: as `predict` and `pretrained`.
    """
    embed, side = embedder(backbone)
    known, asked = _read(support, query, image_size or side, 3)
    features, labels = embed(known.images), np.asarray(known.labels)
    sums = np.zeros((len(known.names), features.shape[1]), np.float64)
    np.add.at(sums, labels, features)
    count = np.bincount(labels, minlength=len(sums))
    temperature, expected = _left_out(features, labels, sums, count)
    means = sums / count[:, None]

    def logits(x: np.ndarray) -> np.ndarray:
        return -temperature * ((embed(x)[:, None] - means) ** 2).sum(-1)

    return _named(logits, asked, known.names, BATCH), expected


def write_csv(predictions: Iterable[Prediction], path: Path) -> None:
    """Write file, class, probability and second best of each prediction, in UTF-8, whole or not at all."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("file", "class", "probability", "second"))
        rows.writerows((p.file, p.label, f"{p.probability:.6f}", p.second) for p in predictions)


def _left_out(
    features: np.ndarray, labels: np.ndarray, sums: np.ndarray, count: np.ndarray
) -> tuple[float, Expected | None]:
    """(The likeliest temperature, the accuracy), each support image judged by the means of the others."""
    judged = np.flatnonzero(count[labels] > 1)
    if not len(judged):
        return 8.0, None
    means = np.repeat((sums / count[:, None])[None], len(judged), 0)
    own = labels[judged]
    means[np.arange(len(judged)), own] = (sums[own] - features[judged]) / (count[own] - 1)[:, None]
    distances = ((features[judged][:, None] - means) ** 2).sum(-1)

    def likelihood(temperature: float) -> float:
        logits = -temperature * distances
        top = logits.max(1, keepdims=True)
        return float(
            (logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True)))[np.arange(len(own)), own].mean()
        )

    right = float((distances.argmin(1) == own).mean())
    return max(TEMPERATURES, key=likelihood), Expected(right, *wilson(right, len(own)), len(own))


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n, by Wilson's score (1927): it holds near 0 and 1 as well."""
    z = 1.96
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def _read(
    support: Path, query: Sequence[Path], size: int, channels: int
) -> tuple[images.Labelled, images.FolderImages]:
    if not support.is_dir():
        raise FileNotFoundError(f"no folder {support}: give --support a folder with one sub-folder of images per class")
    known = images.read_classes(images.scan_classes(support), size, channels)
    asked = _read_queries(query, size, channels)
    for note in known.notes:
        log.warning(note)
    return known, asked


def _named(
    logits_of: Callable[[np.ndarray], np.ndarray | Array], asked: images.FolderImages, names: Sequence[str], batch: int
) -> list[Prediction]:
    found: list[Prediction] = []
    for first in range(0, len(asked.paths), batch):
        share = np.asarray(jax.nn.softmax(jnp.asarray(logits_of(asked.images[first : first + batch])), axis=-1))
        if not np.isfinite(share).all():
            raise ValueError(
                "the network's outputs are not finite, so that any class would be a guess: "
                "use another run or checkpoint, or fewer inner steps"
            )
        for file, p in zip(asked.paths[first : first + batch], share, strict=True):
            best, *rest = np.argsort(-p, kind="stable")[:2]
            found.append(Prediction(file, names[best], float(p[best]), names[rest[0]] if rest else ""))
    return found


def _read_queries(query: Sequence[Path], size: int, channels: int) -> images.FolderImages:
    if len(query) == 1 and query[0].is_dir():
        return images.read_folder(query[0], size, channels)
    for path in query:
        if not path.is_file():
            raise FileNotFoundError(f"no image {path}: give --query one folder, or image files")
    read, note = images.read_files(query, size, channels)
    if not read.paths:
        raise ValueError(f"none of the query images can be read: {note}")
    if note:
        log.warning(note)
    return read
