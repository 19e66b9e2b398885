"""Image files of every kind into arrays, folders of classes, and the cache."""

import logging
import os

import numpy as np
import pytest
from PIL import Image

from mtl_jax.data import datasets, images
from mtl_jax.data.images import Labelled, cached, read_files, read_folder, recolour, resize, to_array


def save(path, size=(10, 8), mode="RGB", value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes of mixed sizes, kinds and numbers."""
    root = tmp_path / "animals"
    for i, size in enumerate([(10, 8), (40, 30), (9, 9)]):
        save(root / "cat" / f"{i}.png", size, value=i)
    for i, mode in enumerate(["RGB", "L"]):
        save(root / "dog" / f"{i}.JPG", (20, 20), mode, value=i)
    (root / "dog" / "notes.txt").write_text("not an image")
    (root / ".hidden").mkdir()
    return root


def test_one_bit_images_are_smoothed():
    stripes = np.zeros((40, 40), bool)
    stripes[:, ::2] = True
    small = to_array(Image.fromarray(stripes), 10, 1)
    assert small.shape == (10, 10, 1)
    assert 100 < small.mean() < 155
    assert np.ptp(small[2:-2, 2:-2]) < 60, "NEAREST would give only 0 and 255"


def test_modes_transparency_and_inversion():
    deep = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    assert (to_array(deep, None, 1) == 255).all()
    clear = Image.fromarray(np.zeros((4, 4, 4), np.uint8))  # black, but wholly transparent
    assert (to_array(clear, None, 3) == 255).all()
    ink = Image.fromarray(np.asarray([[0, 255]], np.uint8))
    assert to_array(ink, None, 1, invert=True).ravel().tolist() == [255, 0]
    assert to_array(ink, 6, 3).shape == (6, 6, 3)


def test_resize_leaves_flat_images_flat_and_equal_sizes_alone():
    x = np.full((2, 8, 8, 3), 77, np.uint8)
    assert (resize(x, 5) == 77).all()
    assert resize(x, 5).shape == (2, 5, 5, 3)
    assert resize(x, 8) is x
    assert resize(x, None) is x


def test_colours_become_their_luma_and_gray_three_equal_channels():
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    gray = recolour(x, 1)
    assert gray.shape == (2, 4, 4, 1)
    np.testing.assert_allclose(gray[..., 0], x @ np.array([0.299, 0.587, 0.114]), atol=1)
    np.testing.assert_array_equal(recolour(gray, 3), np.concatenate([gray] * 3, -1))
    assert recolour(x, 3) is x
    assert recolour(x, None) is x
    assert datasets.load("digits", "test", channels=3).x.shape == (1797, 28, 28, 3)


def test_folder_of_ragged_classes(folder, tmp_path):
    pool = datasets.load(f"folder:{folder}", cache_dir=tmp_path)
    assert pool.x.shape == (5, 84, 84, 3)
    assert pool.names == ("cat", "dog")
    assert pool.count.tolist() == [3, 2]
    small = datasets.load(f"folder:{folder}", "test", image_size=16, channels=1, cache_dir=tmp_path)
    assert small.x.shape == (5, 16, 16, 1)
    facts = datasets.info(f"folder:{folder}")
    assert facts.image_shape == (84, 84, 3)
    assert facts.classes == {"train": 2, "val": 2, "test": 2}


def test_gray_folder_has_one_channel(tmp_path):
    save(tmp_path / "f" / "a" / "0.png", mode="L")
    save(tmp_path / "f" / "b" / "0.png", mode="1")
    assert datasets.load(f"folder:{tmp_path / 'f'}", image_size=12, cache_dir=tmp_path).x.shape == (2, 12, 12, 1)


def test_folder_split_up_by_name(tmp_path):
    for split, names in (("train", "abc"), ("test", "de")):
        for name in names:
            save(tmp_path / "f" / split / name / "0.png")
    name = f"folder:{tmp_path / 'f'}"
    assert datasets.load(name, "train", 8, cache_dir=tmp_path).names == ("a", "b", "c")
    assert datasets.load(name, "test", 8, cache_dir=tmp_path).names == ("d", "e")
    with pytest.raises(ValueError, match="has no val split: choose one of train, test"):
        datasets.load(name, "val", 8, cache_dir=tmp_path)


def test_corrupt_images_are_named_and_skipped_at_every_load(folder, tmp_path, caplog):
    good = (folder / "cat" / "1.png").read_bytes()
    (folder / "cat" / "1.png").write_bytes(good[: len(good) // 2])
    (folder / "cat" / "2.png").write_bytes(b"no image at all")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            pool = datasets.load(f"folder:{folder}", image_size=8, cache_dir=tmp_path)
        assert pool.count.tolist() == [1, 2]
        (line,) = (message for message in caplog.messages if "no splits of its own" not in message)
        assert "skipped 2 of 3" in line
        assert "1.png" in line
        assert "2.png" in line
    (folder / "cat" / "0.png").write_bytes(b"")
    with pytest.raises(ValueError, match="class 'cat' runs empty") as caught:
        datasets.load(f"folder:{folder}", image_size=8, cache_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_empty_and_wrong_folders(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        datasets.load(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match="no sub-folders"):
        datasets.load(f"folder:{folder / 'cat'}")
    (folder / "emu").mkdir()
    with pytest.raises(ValueError, match=r"class 'emu' .* has no image"):
        datasets.load(f"folder:{folder}")
    with pytest.raises(ValueError, match="channels must be 1 or 3, not 2"):
        datasets.load(f"folder:{folder}", channels=2)


def test_changed_files_are_read_again(folder, tmp_path):
    before = datasets.load(f"folder:{folder}", image_size=8, cache_dir=tmp_path)
    path = folder / "cat" / "0.png"
    save(path, value=9)
    os.utime(path, ns=(1, 1))
    after = datasets.load(f"folder:{folder}", image_size=8, cache_dir=tmp_path)
    assert not np.array_equal(before.x[0], after.x[0])
    np.testing.assert_array_equal(before.x[1:], after.x[1:])


def test_read_folder_gives_images_and_their_files(folder):
    read = read_folder(folder / "cat", image_size=8, channels=3)
    assert read.images.shape == (3, 8, 8, 3)
    assert [path.name for path in read.paths] == ["0.png", "1.png", "2.png"]
    assert read.skipped == 0
    with pytest.raises(ValueError, match="3 sizes"):
        read_folder(folder / "cat", image_size=None)
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_folder(folder / "nowhere")
    with pytest.raises(ValueError, match="no image"):
        read_folder(folder / ".hidden")


def made(calls):
    calls.append(1)
    return Labelled(np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1), np.arange(3, dtype=np.int32), ("a", "b", "ש"))


def test_cache_keeps_what_was_made_by_key(tmp_path):
    calls = []
    first = cached("x", ["key", 1], lambda: made(calls), tmp_path)
    second = cached("x", ["key", 1], lambda: made(calls), tmp_path)
    assert len(calls) == 1
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    cached("x", ["key", 2], lambda: made(calls), tmp_path)
    assert len(calls) == 2
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "text"])
def test_damaged_cache_files_are_made_again(tmp_path, damage):
    calls = []
    first = cached("x", 1, lambda: made(calls), tmp_path)
    (path,) = tmp_path.glob("*.npz")
    data = bytearray(path.read_bytes())
    data[200] ^= 255  # inside the images
    path.write_bytes({"truncated": path.read_bytes()[:300], "flipped": data, "emptied": b"", "text": b"hello"}[damage])
    again = cached("x", 1, lambda: made(calls), tmp_path)
    assert len(calls) == 2
    np.testing.assert_array_equal(first.images, again.images)
    cached("x", 1, lambda: made(calls), tmp_path)
    assert len(calls) == 2, "the file was mended"


def test_cache_that_cannot_be_written_costs_only_time(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    data = cached("x", 1, lambda: made([]), tmp_path / "file")
    assert len(data.images) == 3
    assert "cannot write the cache file" in caplog.text


def test_cache_folder_is_the_argument_else_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "variable"))
    assert images.cache_folder(tmp_path / "argument") == tmp_path / "argument"
    assert images.cache_folder() == tmp_path / "variable"
    monkeypatch.delenv("MTL_JAX_CACHE")
    assert images.cache_folder().name == "mtl_jax"


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(tmp_path):
    y, x = np.mgrid[0:1200, 0:1600]
    picture = np.stack((x // 8 % 256, y // 6 % 256, (x + y) // 12 % 256), -1).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "photo.jpg", quality=95)
    read, note = read_files([tmp_path / "photo.jpg"], 84, 3)
    assert not note
    with Image.open(tmp_path / "photo.jpg") as whole:
        full = to_array(whole.convert("RGB"), 84, 3)
    assert np.abs(read.images[0].astype(int) - full.astype(int)).mean() < 1.5


def test_an_image_of_over_100_megapixels_is_named_and_left_out(tmp_path):
    Image.new("1", (12_000, 9_000)).save(tmp_path / "vast.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    read, note = read_files([tmp_path / "small.png", tmp_path / "vast.png"], 28, 3)
    assert len(read.paths) == 1
    assert "vast.png (over 100 megapixels)" in note
