"""predict: adapt a trained run to a folder of labelled images, and name the class of others."""

import csv
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.app.methods import build_learner
from mtl_jax.app.settings import Settings
from mtl_jax.data import images
from mtl_jax.run.metrics import whole_file
from mtl_jax.types import Array, PyTree

BATCH = 256  # query images at a time

log = logging.getLogger(__name__)


class Prediction(NamedTuple):
    """One image's file, the class it is given to, and that class's probability by the learner's softmax."""

    file: Path
    label: str
    probability: float


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
    shape = settings.task.image_shape
    if shape is None or len(shape) != 3:
        raise ValueError(f"predict reads images, and this run was trained on inputs of shape {shape}")
    size, _, channels = shape
    if not support.is_dir():
        raise FileNotFoundError(f"no folder {support}: give --support a folder with one sub-folder of images per class")
    known = images.read_classes(images.scan_classes(support), size, channels)
    learner = build_learner(settings, len(known.names))
    asked = _read_queries(query, size, channels)
    for note in known.notes:
        log.warning(note)

    def pixels(x: np.ndarray) -> Array:
        return jnp.asarray((255 - x if invert else x).astype(np.float32) / 255.0)

    phi = learner.adapt(theta, pixels(known.images), jnp.asarray(known.labels))
    batch = len(asked.paths) if settings.network.norm == "transductive" else BATCH
    found: list[Prediction] = []
    for first in range(0, len(asked.paths), batch):
        logits = learner.predict(theta, phi, pixels(asked.images[first : first + batch]))
        share = np.asarray(jax.nn.softmax(logits, axis=-1))
        if not np.isfinite(share).all():
            raise ValueError(
                "the network's outputs are not finite, so that any class would be a guess: "
                "use another run or checkpoint, or fewer inner steps"
            )
        files = asked.paths[first : first + batch]
        found += [Prediction(f, known.names[p.argmax()], float(p.max())) for f, p in zip(files, share, strict=True)]
    return found


def write_csv(predictions: Iterable[Prediction], path: Path) -> None:
    """Write file, class and probability of each prediction, in UTF-8, whole or not at all."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("file", "class", "probability"))
        rows.writerows((p.file, p.label, f"{p.probability:.6f}") for p in predictions)


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
