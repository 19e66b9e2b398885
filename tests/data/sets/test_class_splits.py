"""Class splits: shares, seeds and a user's own file; disjoint, whole, and never the same without a word."""

import json

import numpy as np
import pytest

from mtl_jax.data import datasets
from mtl_jax.data.cache import Labelled
from mtl_jax.data.sets.class_splits import by_seed, join, published, read_split_file, select

SPLITS = ("train", "val", "test")


@pytest.mark.parametrize("classes", [10, 11, 25, 100, 1623])
def test_a_drawn_split_is_disjoint_and_whole(classes):
    names = [f"c{i:04}" for i in range(classes)]
    drawn = by_seed(names)
    assert sorted(name for split in SPLITS for name in drawn[split]) == names
    for split, share in zip(SPLITS, (0.64, 0.16, 0.20), strict=True):
        assert abs(len(drawn[split]) - share * classes) <= 1
    assert by_seed(reversed(names)) == drawn, "the order that names come in is no part of it"
    assert by_seed(names, 1) != drawn


def test_ten_classes_are_the_least_to_split():
    assert {split: len(names) for split, names in by_seed("abcdefghij").items()} == {"train": 6, "val": 2, "test": 2}
    assert set(by_seed("abcdefghi").values()) == {tuple("abcdefghi")}


@pytest.mark.parametrize(("name", "sizes"), [("mini_imagenet", (64, 16, 20)), ("cifar_fs", (64, 16, 20))])
def test_published_lists_are_whole(name, sizes):
    splits = published(name)
    assert tuple(len(splits[split]) for split in SPLITS) == sizes
    assert len({c for split in SPLITS for c in splits[split]}) == sum(sizes)


def test_select_and_join_keep_each_row_with_its_class():
    x, labels = np.arange(6)[:, None], np.asarray([0, 0, 1, 2, 2, 2], np.int32)
    whole = Labelled(x, labels, ("a", "b", "c"), ("note",))
    some = select(whole, ("c", "a"))
    assert (some.x.ravel().tolist(), some.labels.tolist(), some.names) == ([0, 1, 3, 4, 5], [0, 0, 1, 1, 1], ("a", "c"))
    both = join([select(whole, "bc"), Labelled(x[:2] + 10, np.asarray([0, 1], np.int32), ("c", "d"))])
    assert both.names == ("b", "c", "d")
    assert [both.names[i] for i in both.labels] == ["b", "c", "c", "c", "c", "d"]
    assert both.x.ravel().tolist() == [2, 3, 4, 5, 10, 11]


@pytest.fixture
def own(tmp_path):
    """A function that writes a split file."""

    def write(**splits):
        (tmp_path / "split.json").write_text(json.dumps(splits), encoding="utf-8")
        return tmp_path / "split.json"

    return write


def test_a_users_split_of_a_named_set(own, caplog):
    file = own(train=["0", "1", "2"], test=["7", "8"])
    pool = datasets.load("digits", "train", split_file=file)
    whole = datasets.load("digits", "test")
    assert pool.names == ("0", "1", "2")
    np.testing.assert_array_equal(pool.x, whole.x[: len(pool.x)])
    assert "leaves 5 of the 10 classes of digits in no split" in caplog.text
    assert datasets.info("digits", split_file=file).classes == {"train": 3, "test": 2}
    with pytest.raises(ValueError, match=r"has no val split: it has train, test"):
        datasets.load("digits", "val", split_file=file)


def test_a_users_split_pools_the_sets_own(own, glyphs):
    first, last = glyphs("train").names[3], glyphs("test").names[5]
    pool = datasets.load("glyphs", "val", split_file=own(val=[last, first]))
    assert set(pool.names) == {first, last}
    assert pool.count.tolist() == [20, 20]
    np.testing.assert_array_equal(pool.x[:20], glyphs("train").x[60:80])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "has none of train, val, test"),
        ('{"train": ["a"], "dev": ["b"]}', "has a split 'dev'"),
        ('{"train": "a"}', "train must be a list"),
        ('{"train": ["0"], "test": ["1", "0"]}', "has '0' in train and in test"),
        ('{"train": []}', "lists no class for train"),
        ('{"train": ["00"]}', "names '00', a class that digits does not have"),
    ],
)
def test_bad_split_files_are_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load("digits", "train", split_file=tmp_path / "s.json")
    assert "\n" not in str(caught.value)


def test_a_missing_split_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no split file"):
        read_split_file(tmp_path / "none.json")
