"""folder: what a folder may look like, and that nothing in it is lost without a word."""

import numpy as np
import pytest
from PIL import Image

from mtl_jax.data import datasets, images


@pytest.fixture
def load(tmp_path):
    """load(split) of the folder that `picture` writes into."""

    def read(split="train", options="", **settings):
        return datasets.load(f"folder:{tmp_path / 'f'}{options}", split, 8, cache_dir=tmp_path / "cache", **settings)

    return read


@pytest.fixture
def picture(tmp_path):
    """picture("train/cat/0.png", 7): a picture that is all 7."""

    def write(path, value=0):
        file = tmp_path / "f" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(file)

    return write


def values(pool):
    """Each class's pictures by their value."""
    x, ends = np.asarray(pool.x)[:, 0, 0, 0], np.cumsum(np.asarray(pool.count))[:-1]
    return {name: part.tolist() for name, part in zip(pool.names, np.split(x, ends), strict=True)}


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_every_usual_name_of_val_is_val(picture, load, val):
    for split, name in (("train", "a"), (val, "b"), ("test", "c")):
        picture(f"{split}/{name}/0.png")
    assert [load(split).names for split in ("train", "val", "test")] == [("a",), ("b",), ("c",)]


def test_two_folders_for_one_split_are_refused(picture, load):
    for split in ("val", "valid"):
        picture(f"{split}/a/0.png")
    with pytest.raises(ValueError, match=r"has val/ and valid/: leave one"):
        load("val")


def test_what_stands_beside_is_named_with_counts(picture, load, caplog):
    for path in (
        "train/a/0.png",
        "train/_background_/0.png",
        "train/_background_/1.png",
        "train/x.png",
        "extra/b/0.png",
    ):
        picture(path)
    assert load().names == ("a",)
    assert "left out extra beside train/" in caplog.text
    assert "left out _background_ (2 images)" in caplog.text
    assert "left out 1 images that lie beside the classes' folders" in caplog.text


def test_folders_without_pictures_are_left_out_in_silence(picture, load, tmp_path, caplog):
    picture("train/a/0.png")
    (tmp_path / "f" / "train" / "_notes").mkdir()
    (tmp_path / "f" / "train" / ".cache").mkdir()
    assert load().names == ("a",)
    assert caplog.messages == []


def test_nested_pictures_are_their_class_s(picture, load, caplog):
    for path, value in (
        ("cat/0.png", 1),
        ("cat/session2/0.png", 2),
        ("cat/session2/deep/1.png", 3),
        ("dog/s/0.png", 4),
    ):
        picture(path, value)
    assert values(load()) == {"cat": [1, 2, 3], "dog": [4]}
    assert "images in folders below cat, dog are counted to them" in caplog.text


def test_few_classes_are_every_split_s_with_a_warning(picture, load, caplog):
    for name in "abc":
        picture(f"{name}/0.png")
    assert load("train").names == load("test").names == ("a", "b", "c")
    assert "train, val and test are all the same 3 classes" in caplog.text


def test_many_classes_are_split_by_a_stated_seed(picture, load, caplog, tmp_path):
    names = [f"{i:02}" for i in range(25)]
    for i, name in enumerate(names):
        picture(f"{name}/0.png", i)
    pools = {split: values(load(split)) for split in ("train", "val", "test")}
    assert {split: len(found) for split, found in pools.items()} == {"train": 16, "val": 4, "test": 5}
    assert sorted(name for found in pools.values() for name in found) == names
    assert all(found[name] == [int(name)] for found in pools.values() for name in found)
    assert "split by seed 0 into train 16, val 4, test 5" in caplog.text
    assert values(load("test", "?seed=3")) != pools["test"]
    assert datasets.info(f"folder:{tmp_path / 'f'}").classes == {"train": 16, "val": 4, "test": 5}


def test_splits_agree_on_channels(picture, load, tmp_path):
    picture("train/a/0.png", 7)
    picture("test/b/0.png")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "f" / "test" / "b" / "1.png")
    assert load("train").x[0, 0, 0].tolist() == [7, 7, 7]
    assert load("test").input_shape == (8, 8, 3)


def test_a_flat_folder_with_a_csv(picture, load, tmp_path, caplog):
    for i in range(4):
        picture(f"images/{i}.png", i)
    rows = "Filename,Label\n0.png,猫\nimages/2.png,dog\n1,猫\n9.png,dog\n"
    (tmp_path / "f" / "labels.csv").write_text(rows, encoding="utf-8")
    assert values(load()) == {"dog": [2], "猫": [0, 1]}
    assert "classes are those of labels.csv" in caplog.text
    assert "lists 1 files that are not there: 9.png" in caplog.text


def test_a_csv_per_split_and_a_column_of_splits(picture, load, tmp_path):
    for i in range(3):
        picture(f"{i}.png", i)
    for split, row in (("train", "0.png,a"), ("valid", "1.png,b"), ("test", "2.png,c")):
        (tmp_path / "f" / f"{split}.csv").write_text(f"filename,label\n{row}\n")
    assert [values(load(split)) for split in ("train", "val", "test")] == [{"a": [0]}, {"b": [1]}, {"c": [2]}]
    for split in ("train", "valid", "test"):
        (tmp_path / "f" / f"{split}.csv").unlink()
    (tmp_path / "f" / "all.csv").write_text("file,class,split\n0.png,a,train\n1.png,b,test\n")
    assert values(load("test")) == {"b": [1]}
    with pytest.raises(ValueError, match="has no val split: choose one of train, test"):
        load("val")
    (tmp_path / "f" / "all.csv").write_text("file,class,split\n0.png,a,dev\n")
    with pytest.raises(ValueError, match="has a split 'dev'"):
        load("val")


def test_a_users_split_pools_the_folders_own(picture, load, tmp_path):
    for path, value in (("train/a/0.png", 1), ("train/b/0.png", 2), ("test/a/0.png", 3), ("test/c/0.png", 4)):
        picture(path, value)
    (tmp_path / "s.json").write_text('{"train": ["c"], "val": ["a"], "test": ["b"]}')
    assert values(load("val", split_file=tmp_path / "s.json")) == {"a": [1, 3]}
    (tmp_path / "s.json").write_text('{"train": ["aa"]}')
    with pytest.raises(ValueError, match=r"names 'aa', .* did you mean 'a'"):
        load("train", split_file=tmp_path / "s.json")


def test_a_support_folder_of_two_classes_is_read_without_splits(picture, tmp_path):
    for path, value in (("cat/0.png", 1), ("cat/b/0.png", 2), ("dog/0.png", 3), ("_aside/0.png", 4)):
        picture(path, value)
    known = images.read_classes(images.scan_classes(tmp_path / "f"), 8, 1)
    assert known.names == ("cat", "dog")
    assert known.images[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert known.labels.tolist() == [0, 0, 1]
    assert any("_aside (1 images)" in note for note in known.notes)
