"""datasets.load on the real data sets: sizes, disjoint splits, ink and speed; and what it says when it cannot."""

import re
import time
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from mtl_jax.data import datasets

REAL = ("omniglot", "cifar_fs", "fc100")
SPLITS = ("train", "val", "test")


@pytest.mark.parametrize(
    ("name", "classes", "images", "shape"),
    [
        ("omniglot", (1028, 172, 423), 20, (28, 28, 1)),
        ("cifar_fs", (64, 16, 20), 600, (32, 32, 3)),
        ("fc100", (60, 20, 20), 600, (32, 32, 3)),
    ],
)
def test_published_splits_are_whole_and_share_no_class(real_data, name, classes, images, shape):
    pools = [real_data(name, split) for split in SPLITS]
    facts = datasets.info(name)
    assert facts.splits == SPLITS
    assert facts.image_shape == shape
    for split, pool, count in zip(SPLITS, pools, classes, strict=True):
        assert pool.classes == len(set(pool.names)) == count == facts.classes[split]
        assert pool.smallest == pool.largest == images
        assert pool.x.shape == (count * images, *shape)
    assert len(set().union(*(pool.names for pool in pools))) == sum(classes)
    # Nor do they share a picture, whatever its class is called. (CIFAR-100 itself holds a few twins.)
    prints = [{bytes(x.tobytes()) for x in np.asarray(pool.x)[::7]} for pool in pools]
    assert len(prints[0] & prints[2]) + len(prints[1] & prints[2]) <= 2


def test_second_load_is_quick_and_equal(real_data):
    for name in REAL:
        real_data(name, "train")
        begin = time.perf_counter()
        again = datasets.load(name, "train")
        again.x.block_until_ready()
        assert time.perf_counter() - begin < 2.0  # well under 1 s on an idle machine
        np.testing.assert_array_equal(again.x, real_data(name, "train").x)


def test_omniglot_is_smooth_bright_ink(real_data):
    x = np.asarray(real_data("omniglot", "val").x)
    assert len(np.unique(x)) > 200, "8 bits: resized with an anti-aliasing filter"
    assert 0.04 < x.mean() / 255 < 0.15, "ink is 1 on 0"
    assert x.max((1, 2, 3)).min() > 128, "no drawing is blank"
    wide = datasets.load("omniglot", "val", image_size=105)
    assert set(np.unique(wide.x)) == {0, 255}, "the files' own pixels"


def test_cifar_pixels_are_the_files_own_at_their_size(real_data):
    x = np.asarray(real_data("cifar_fs", "val").x)
    assert x.min() == 0
    assert x.max() == 255
    assert 100 < x.mean() < 150
    assert datasets.load("cifar_fs", "val", image_size=8).x.shape == (9600, 8, 8, 3)


def test_digits_are_a_target_domain():
    pool = datasets.load("digits", "test")
    assert pool.x.shape == (1797, 28, 28, 1)
    assert pool.names == tuple("0123456789")
    assert (pool.smallest, pool.largest) == (174, 183)
    zero = np.asarray(pool.x[:174, ..., 0], np.float64).mean(0)
    assert zero[14, 14] < 60 < zero[14, 7:21].max(), "ink is bright: a zero is hollow"
    assert zero[:, :2].mean() < 10
    assert datasets.load("digits", "test", image_size=8).x.shape == (1797, 8, 8, 1)
    with pytest.raises(ValueError, match="digits has no train split: choose one of test"):
        datasets.load("digits", "train")


@pytest.fixture
def few_glyphs(monkeypatch):
    """The glyphs' own TFDS builder, cut down to two letters per split."""
    from mtl_jax.data.sets import glyphs_builder

    monkeypatch.setattr(glyphs_builder, "letters", {"train": "ab", "val": "ກຂ", "test": "ߊߋ"}.__getitem__)


def test_glyphs_need_no_writable_data_folder(tmp_path, few_glyphs):
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    data.chmod(0o555)
    pool = datasets.load("glyphs", "test", data_dir=data, cache_dir=cache)
    assert pool.names == ("nko letter a", "nko letter ee")
    assert not list(data.iterdir())
    assert (cache / "tfds" / "glyphs").is_dir()


def test_glyphs_go_where_tfds_keeps_its_data_if_it_can_be_written(tmp_path, monkeypatch, few_glyphs):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    pool = datasets.load("glyphs", "train", cache_dir=tmp_path / "cache")
    assert pool.x.shape == (40, 28, 28, 1)
    assert pool.about == "glyphs train"
    assert (tmp_path / "tfds" / "glyphs" / "1.0.0" / "dataset_info.json").is_file()
    assert datasets.prepare("glyphs") == tmp_path / "tfds" / "glyphs" / "1.0.0"


@pytest.mark.parametrize("name", REAL)
def test_unprepared_says_how_to_prepare(tmp_path, name):
    with pytest.raises(ValueError, match=r"TFDS_DATA_DIR.*mtl_jax\[prepare\]") as caught:
        datasets.load(name, data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    if util.find_spec("tensorflow") is None:
        with pytest.raises(ValueError, match=r"mtl_jax\[prepare\]"):
            datasets.prepare(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_prepare_refuses_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(ValueError, match="cannot be written"):
        datasets.prepare("glyphs", tmp_path)


def test_available_tells_what_loads_now(tmp_path, monkeypatch, real_data):
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path))
    ready = datasets.available(tmp_path)
    assert [name for name, there in ready.items() if there] == ["glyphs", "digits"]
    assert ready.keys() == datasets.DATASETS.keys()
    real_data("omniglot", "val")
    assert all(datasets.available()[name] for name in REAL)


def test_facts_are_whole():
    for name, facts in datasets.DATASETS.items():
        assert facts.size, name
        assert facts.licence != "your own", name
        assert facts.get, name
        assert set(facts.splits) <= set(SPLITS)
    assert all(about.startswith(f"{kind}:/") or kind == "tfds" for kind, about in datasets.KINDS.items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("omniglott", "did you mean 'omniglot'"),
        ("cifar", "did you mean 'cifar_fs'"),
        ("mini-imagenet", "did you mean 'mini_imagenet'"),
        ("folders:/x", "did you mean 'folder:/x'"),
        ("np:/x.npz", "did you mean 'npz:/x.npz'"),
        ("{tmp}", "say folder:{tmp}"),
        ("{tmp}/a.csv", "say csv:{tmp}/a.csv"),
        ("{tmp}/a.npz", "say npz:{tmp}/a.npz"),
        ("xyzzy", "choose one of glyphs, digits, omniglot, cifar_fs, fc100, mini_imagenet, or folder:, npz:"),
        ("csv:", "says not where"),
        ("csv:/x.csv?lable=a", "csv has no option 'lable': choose from label, text"),
        ("npz:{tmp}/a.npz?seed=x", "seed must be a whole number"),
    ],
)
def test_unknown_names_say_which_was_meant(tmp_path, name, message):
    (tmp_path / "a.csv").write_text("x,label\n1,a\n")
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 2)), y=np.arange(2))
    with pytest.raises(ValueError, match=re.escape(message.format(tmp=tmp_path))) as caught:
        datasets.load(name.format(tmp=tmp_path))
    assert "\n" not in str(caught.value)


def test_unknown_splits_and_sizes():
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        datasets.load("glyphs", "dev")
    with pytest.raises(ValueError, match="image_size must be at least 1 pixel, not 0"):
        datasets.load("digits", "test", image_size=0)
    with pytest.raises(ValueError, match="channels must be 1 or 3, not 2"):
        datasets.load("digits", "test", channels=2)
    with pytest.raises(ValueError, match="digits needs no preparation"):
        datasets.prepare("digits")
    assert {datasets.info(name).augment for name in datasets.DATASETS} == {"rotations", "flip_crop", "none"}


def test_importing_data_loads_nothing_slow():
    import subprocess
    import sys

    slow = {"tensorflow_datasets", "matplotlib", "scipy.signal", "flax", "sklearn", "tokenizers", "safetensors"}
    code = f"import sys, mtl_jax.data.datasets; print({slow} & set(sys.modules) or [])"
    root = Path(datasets.__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
