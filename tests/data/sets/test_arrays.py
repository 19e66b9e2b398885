"""npz: arrays of every kind, splits of every form, and files that are refused in one line."""

import numpy as np
import pytest

from mtl_jax.data import datasets

X = np.arange(60, dtype=np.float32).reshape(12, 5)
Y = np.asarray([2, 0, 1] * 4)
NAMES = np.asarray(["zebra", "ant", "猫"])


@pytest.fixture
def npz(tmp_path):
    """npz(x=..., y=...): the name of such a file."""

    def write(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return f"npz:{tmp_path / 'a.npz'}"

    return write


def test_features_keep_their_values_and_names(npz, tmp_path):
    name = npz(x=X, y=Y, names=NAMES)
    pool = datasets.load(name)
    assert pool.names == ("zebra", "ant", "猫")
    np.testing.assert_array_equal(pool.x, X[np.argsort(Y, kind="stable")])
    assert pool.about == f"{name} train"
    facts = datasets.info(name)
    assert (facts.image_shape, facts.augment) == ((5,), "none")
    assert facts.classes == {"train": 3, "val": 3, "test": 3}
    assert datasets.load(name, host=True).on_host


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.int32])
def test_other_numbers_become_floats_or_tokens(npz, dtype):
    pool = datasets.load(npz(x=X.astype(dtype), y=Y))
    assert pool.x.dtype == (np.float32 if np.issubdtype(dtype, np.floating) else np.int32)
    np.testing.assert_array_equal(pool.x[0], X[1])


def test_bytes_and_booleans_are_images(npz):
    name = npz(x=np.zeros((12, 8, 8), np.uint8), y=Y)
    assert datasets.info(name).image_shape == (8, 8, 1)
    assert datasets.load(name, image_size=16, channels=3).x.shape == (12, 16, 16, 3)
    ink = datasets.load(npz(x=np.ones((12, 8, 8), bool), y=Y), image_size=4)
    assert ink.x.shape == (12, 4, 4, 1)
    assert int(ink.x.min()) == 255


def test_words_are_labels_too(npz):
    pool = datasets.load(npz(x=X, y=NAMES[Y]))
    assert pool.names == ("ant", "zebra", "猫")
    np.testing.assert_array_equal(pool.x[:4], X[Y == 1])


def test_splits_in_an_array_and_in_pairs(npz):
    split = np.where(Y == 2, "test", "train")
    name = npz(x=X, y=Y, names=NAMES, split=split)
    assert datasets.load(name, "test").names == ("猫",)
    assert datasets.info(name).classes == {"train": 2, "test": 1}
    pairs = npz(x_train=X[:6], y_train=Y[:6], x_test=X[6:], y_test=Y[6:] + 5)
    assert datasets.load(pairs, "test").names == ("5", "6", "7")
    with pytest.raises(ValueError, match="has no val split: choose one of train, test"):
        datasets.load(pairs, "val")


def test_many_classes_are_split_by_a_seed(npz, caplog):
    y = np.repeat(np.arange(30), 2)
    name = npz(x=y[:, None].astype(np.float32), y=y)
    pools = [datasets.load(name, split) for split in ("train", "val", "test")]
    assert [pool.classes for pool in pools] == [19, 5, 6]
    assert sorted(float(v) for pool in pools for v in pool.x[::2, 0]) == list(range(30))
    assert "split by seed 0 into train 19, val 5, test 6" in caplog.text


BAD = np.where(np.arange(60).reshape(12, 5) == 32, np.nan, X)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "it needs arrays x and y"),
        ({"x_train": X}, "has only one of x_train and y_train"),
        ({"x": X, "y": Y[:5]}, r"want y \[12\] of whole numbers or words"),
        ({"x": X, "y": Y / 2}, r"want y \[12\] of whole numbers or words, not float64"),
        ({"x": X, "y": Y, "names": NAMES[:2]}, r"y lies in \[0, 2\], but there are 2 names"),
        ({"x": X, "y": Y, "names": NAMES[[0, 0, 1]]}, "two classes have one name"),
        ({"x": X, "y": Y, "split": np.asarray(["dev"] * 12)}, "has a split 'dev'"),
        ({"x": X, "y": Y, "split": np.asarray(["train"])}, "do not fit"),
        ({"x": BAD, "y": Y}, r"a\.npz: x is not finite \(NaN or infinite\) in row 6"),
        ({"x": X.astype(object), "y": Y}, "it holds Python objects"),
        ({"x": np.zeros((12, 3, 32, 32), np.uint8), "y": Y}, "channels-first"),
    ],
)
def test_files_that_cannot_be_used_say_why_in_one_line(npz, arrays, message):
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(npz(**arrays))
    assert "\n" not in str(caught.value)


def test_what_is_no_npz_file(tmp_path, npz):
    with pytest.raises(FileNotFoundError, match="no file"):
        datasets.load(f"npz:{tmp_path / 'none.npz'}")
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "one.npy", X)
    for name in ("text.npz", "one.npy"):
        with pytest.raises(ValueError, match="cannot read") as caught:
            datasets.load(f"npz:{tmp_path / name}")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"has no images but inputs \[5\]: leave out image_size"):
        datasets.load(npz(x=X, y=Y), image_size=8)
