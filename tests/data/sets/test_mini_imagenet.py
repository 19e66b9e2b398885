"""mini_imagenet: prepared from any tree of JPEGs, checked whole, and opened without being read."""

import json
import time

import numpy as np
import pytest
from PIL import Image

from mtl_jax.data import datasets
from mtl_jax.data.sets import mini_imagenet
from mtl_jax.data.sets.class_splits import published

EACH = 3
NAMES = {split: sorted(names) for split, names in published("mini_imagenet").items()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """All 100 classes of three flat pictures, half of them in the wrong split's folder, as found in the wild."""
    root = tmp_path_factory.mktemp("jpegs")
    for number, name in enumerate(name for names in NAMES.values() for name in names):
        for i in range(EACH):
            folder = root / ("train" if i else "val") / (name if i < 2 else "mixed")
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (84, 84), (number, 80 * i, 30)).save(folder / f"{name}{i:08}.jpg", quality=95)
    return root


@pytest.fixture(autouse=True)
def few(monkeypatch, tmp_path):
    monkeypatch.setattr(mini_imagenet, "EACH", EACH)
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))


def test_any_tree_of_the_photographs_becomes_one_mapped_array(tree, tmp_path):
    assert not datasets.available()["mini_imagenet"]
    folder = datasets.prepare("mini_imagenet", source=tree)
    assert folder == tmp_path / "data" / "mini_imagenet"
    assert sorted(path.name for path in (tmp_path / "data").rglob("*")) == ["images.npy", "index.json", "mini_imagenet"]
    assert datasets.available()["mini_imagenet"]
    first = 0
    for split, names in NAMES.items():
        pool = datasets.load("mini_imagenet", split, host=True)
        assert pool.names == tuple(names)
        assert pool.count.tolist() == [EACH] * len(names)
        assert pool.input_shape == (84, 84, 3)
        red = np.asarray(pool.x)[:, 40, 40, 0].reshape(-1, EACH)
        np.testing.assert_allclose(red, np.arange(first, first + len(names))[:, None] + np.zeros(EACH), atol=3)
        first += len(names)
    device = datasets.load("mini_imagenet", "val")
    assert not device.on_host
    np.testing.assert_array_equal(device.x, datasets.load("mini_imagenet", "val", host=True).x)
    assert datasets.load("mini_imagenet", "val", image_size=16, channels=1).x.shape == (48, 16, 16, 1)


def test_a_host_pool_is_the_file_itself(tree, tmp_path):
    folder = datasets.prepare("mini_imagenet", source=tree)
    pool = datasets.load("mini_imagenet", "test", host=True)
    mapped = np.load(folder / "images.npy", mmap_mode="r+")
    mapped[80 * EACH, 0, 0] = 77
    mapped.flush()
    assert pool.x[0, 0, 0].tolist() == [77, 77, 77]


def test_opening_the_whole_takes_well_under_ten_seconds(tmp_path, monkeypatch):
    """A file of the real size, sparse on disk."""
    monkeypatch.setattr(mini_imagenet, "EACH", 600)
    folder = tmp_path / "data" / "mini_imagenet"
    folder.mkdir(parents=True)
    np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (60000, 84, 84, 3)).flush()
    rows = {"train": [0, 38400], "val": [38400, 48000], "test": [48000, 60000]}
    (folder / "index.json").write_text(json.dumps({"names": NAMES, "rows": rows}))
    begin = time.perf_counter()
    pool = datasets.load("mini_imagenet", "train", host=True)
    assert time.perf_counter() - begin < 2
    assert (pool.classes, pool.smallest, len(pool.x)) == (64, 600, 38400)


def test_what_is_missing_is_said_and_nothing_is_left(tree, tmp_path):
    part, empty = tmp_path / "part", tmp_path / "empty"
    part.mkdir()
    empty.mkdir()
    for path in sorted(tree.rglob("*.jpg"))[:-1]:
        (part / path.name).symlink_to(path)
    with pytest.raises(
        ValueError, match=rf"not the whole .* of {EACH}: n\d{{8}} \((train|val|test)\) has 2; add"
    ) as caught:
        datasets.prepare("mini_imagenet", source=part)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"has 0, .* and 95 more classes"):
        datasets.prepare("mini_imagenet", source=empty)
    with pytest.raises(FileNotFoundError, match="no folder"):
        datasets.prepare("mini_imagenet", source=tmp_path / "none")
    assert not (tmp_path / "data").exists()


def test_a_damaged_photograph_is_named_and_nothing_is_left(tree, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tree.rglob("*.jpg"):
        (copy / path.name).symlink_to(path)
    bad = next(copy.iterdir())
    bad.unlink()
    bad.write_bytes(b"no JPEG")
    with pytest.raises(ValueError, match=f"{bad.name} cannot be read"):
        datasets.prepare("mini_imagenet", source=copy)
    assert not list((tmp_path / "data").iterdir())


def test_without_photographs_it_says_how(tmp_path):
    for call in (lambda: datasets.load("mini_imagenet"), lambda: datasets.prepare("mini_imagenet")):
        with pytest.raises(ValueError, match="datasets prepare mini_imagenet --from FOLDER") as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="omniglot is not made from a folder of yours"):
        datasets.prepare("omniglot", source=tmp_path)
