"""digits: scikit-learn's handwritten digits, a target domain only."""

import os
from pathlib import Path

import numpy as np

from mtl_jax.data import pixels
from mtl_jax.data.cache import Labelled, cached
from mtl_jax.data.sets.source import DataSet, DatasetInfo, Part, Request

FACTS = {
    "digits": DatasetInfo(
        image_shape=(28, 28, 1),
        classes={"test": 10},
        augment="none",
        source="",
        about="scikit-learn's handwritten digits, a target domain only",
        size="1,797 digits, 8x8 resized to 28x28",
        licence="CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)",
        get="comes with scikit-learn",
    )
}


def open_set(request: Request) -> DataSet:
    """Find the digits, which come with scikit-learn."""
    size = request.image_size or 28

    def read(wanted: frozenset[str] | None) -> Labelled:
        return cached(f"digits-test-{size}", ["digits", size], lambda: _read(size), request.cache_dir)

    return DataSet({"test": Part(tuple("0123456789"), read)}, (size, size, 1))


def available(name: str, data_dir: str | os.PathLike[str] | None) -> bool:
    """Always."""
    return True


def prepare(name: str, data_dir: str | os.PathLike[str] | None, source: str | os.PathLike[str] | None) -> Path:
    """There is nothing to prepare: ValueError."""
    raise ValueError(f"{name} needs no preparation: load it")


def _read(size: int) -> Labelled:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return Labelled(pixels.resize(images, size), bunch.target.astype(np.int32), tuple("0123456789"))
