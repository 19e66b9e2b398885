"""Folders of coloured pictures, and a backbone that sees colours."""

import numpy as np
import pytest
from PIL import Image

from mtl_jax.app import features
from mtl_jax.types import Model


@pytest.fixture
def colours(tmp_path):
    """Classes of one colour each, with noise; splits train, val and test of different colours."""
    rng = np.random.default_rng(0)
    for split, names in {"train": "red green blue", "val": "cyan magenta", "test": "yellow white"}.items():
        for name in names.split():
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(5):
                flat = np.asarray(Image.new("RGB", (20, 16), name), np.int16) + rng.integers(-60, 60, (16, 20, 3))
                Image.fromarray(np.clip(flat, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def tiny_backbone(monkeypatch):
    """A backbone whose features are an image's mean colour about the middle, in place of a large network."""

    def tiny(name):
        return Model(lambda key, x: {}, lambda params, x, stats=None: (x.mean((1, 2)) - 0.5, None)), {}

    monkeypatch.setattr(features, "pretrained", tiny)
