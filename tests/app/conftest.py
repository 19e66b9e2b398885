"""Folders of coloured pictures, and a backbone that sees colours."""

import numpy as np
import pytest
from PIL import Image

from mtl_jax.app import features
from mtl_jax.types import Model


@pytest.fixture
def colours(tmp_path):
    """Classes of one colour each, with noise; splits train, val and test of different colours."""
    return paint(tmp_path / "photos", "red green blue")


@pytest.fixture
def four_colours(tmp_path):
    """The same with four classes in train."""
    return paint(tmp_path / "photos", "red green blue black")


@pytest.fixture
def sorted_colours(colours):
    """(support folder, query folder) with red, green and blue in each, two pictures per class in the query."""
    support, query = colours / "train", colours / "query"
    for name in ("red", "green", "blue"):
        (query / name).mkdir(parents=True)
        for i in (3, 4):
            (support / name / f"{i}.png").rename(query / name / f"{i}.png")
    return support, query


def paint(root, train):
    rng = np.random.default_rng(0)
    for split, names in {"train": train, "val": "cyan magenta", "test": "yellow white"}.items():
        for name in names.split():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(5):
                flat = np.asarray(Image.new("RGB", (20, 16), name), np.int16) + rng.integers(-60, 60, (16, 20, 3))
                Image.fromarray(np.clip(flat, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture
def tiny_backbone(monkeypatch):
    """A backbone whose features are an image's mean colour about the middle, in place of a large network.

    The names that were asked for, in turn.
    """
    asked = []

    def tiny(name):
        asked.append(name)
        return Model(lambda key, x: {}, lambda params, x, stats=None: (x.mean((1, 2)) - 0.5, None)), {}

    monkeypatch.setattr(features, "pretrained", tiny)
    return asked
