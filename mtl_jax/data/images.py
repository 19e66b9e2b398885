"""Image files into uint8 arrays of one size, and the cache that keeps what was made of them."""

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
from PIL import Image, ImageOps

SPLITS = ("train", "val", "test")
CODE_VERSION = 1  # raise it whenever the same files would give other arrays: it is part of every cache key
FILTER = Image.Resampling.LANCZOS
SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"))

log = logging.getLogger(__name__)


class Labelled(NamedTuple):
    """Images by class, on the host.

    Attributes:
        images: [n, height, width, channels] uint8.
        labels: [n] int32 in [0, classes).
        names: [classes] the classes' names.
        notes: what a person should be told at every load, one line each.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


class FolderImages(NamedTuple):
    """The images of one folder that could be read.

    Attributes:
        images: [n, size, size, channels] uint8.
        paths: [n] their files, in the same order.
        skipped: how many files could not be read.
    """

    images: np.ndarray
    paths: tuple[Path, ...]
    skipped: int


def to_array(image: Image.Image, size: int | None, channels: int, invert: bool = False) -> np.ndarray:
    """Turn a Pillow image of any mode into an array, resized with an anti-aliasing filter.

    Args:
        image: the picture; what is transparent in it becomes white.
        size: height and width in pixels, or None to leave them.
        channels: 1 or 3.
        invert: whether dark becomes bright, so that ink on paper is 255 on 0.

    Returns:
        [height, width, channels] uint8.
    """
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    # To 8 bits a channel first: Pillow resizes 1-bit and palette images by NEAREST, whatever is asked.
    image = image.convert("L" if channels == 1 else "RGB")
    if invert:
        image = ImageOps.invert(image)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), FILTER)
    array = np.asarray(image, np.uint8)
    return array[..., None] if array.ndim == 2 else array


def resize(images: np.ndarray, size: int | None) -> np.ndarray:
    """Resize images [n, height, width, channels] uint8 to [n, size, size, channels]; None leaves them."""
    if size is None or images.shape[1:3] == (size, size):
        return images
    channels = images.shape[-1]
    return np.stack([to_array(Image.fromarray(x[..., 0] if channels == 1 else x), size, channels) for x in images])


def recolour(images: np.ndarray, channels: int | None) -> np.ndarray:
    """Images [n, height, width, 1 or 3] uint8 in 1 channel (their ITU-R 601 luma) or 3 equal ones; None leaves them.

    Raises:
        ValueError: channels other than 1 and 3.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels}")
    if channels in (None, images.shape[-1]):
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    return np.stack([to_array(Image.fromarray(x), None, 1) for x in images])


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where prepared arrays are kept: `cache_dir`, else $MTL_JAX_CACHE, else the user's cache folder."""
    chosen = cache_dir or os.environ.get("MTL_JAX_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("mtl_jax")


def cached(label: str, key: object, make: Callable[[], Labelled], cache_dir: str | os.PathLike[str] | None) -> Labelled:
    """Return what `make` returned for this key before, or call it and keep the result.

    Args:
        label: a readable beginning of the file's name.
        key: all that shapes the result, as JSON can write it.
        make: makes the result.
        cache_dir: see `cache_folder`; a folder that cannot be written only costs the next load its time.

    Returns:
        The images, labels and names; a damaged cache file is made again.
    """
    digest = hashlib.sha256(json.dumps([CODE_VERSION, FILTER.name, key], sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder(cache_dir) / f"{label}-{digest}.npz"
    try:
        # the zip's checksums tell a damaged file
        with path.open("rb") as archive, np.load(archive, allow_pickle=False) as kept:
            text = (tuple(kept[part].tolist()) for part in ("names", "notes"))
            return Labelled(kept["images"], kept["labels"], *text)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("cache file %s is damaged (%s): making it again", path, error)
    made = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                names, notes = np.asarray(made.names, np.str_), np.asarray(made.notes, np.str_)
                np.savez(file, images=made.images, labels=made.labels, names=names, notes=notes)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        log.warning("cannot write the cache file %s (%s): the next load will be as slow", path, error)
    return made


class Scan(NamedTuple):
    """What a folder of classes holds, found without decoding a pixel.

    Attributes:
        files: each class's name -> its image files.
        channels: 1 if all the images are gray, else 3.
        fingerprint: [file, bytes, mtime in ns] of every file.
    """

    files: dict[str, list[Path]]
    channels: int
    fingerprint: list[list[object]]


def list_images(folder: Path) -> list[Path]:
    """Return the image files of one folder, known by their suffix, in the order of their names."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != ".")


def folder_splits(path: str) -> dict[str, Path]:
    """Return where the classes of each split are: below train/, val/, test/ if one of these holds folders, else all.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: give folder:/path with one sub-folder of images a class")
    below = {split: root / split for split in SPLITS}
    split_up = {s: p for s, p in below.items() if p.is_dir() and any(child.is_dir() for child in p.iterdir())}
    return split_up or dict.fromkeys(SPLITS, root)


def scan_classes(folder: Path) -> Scan:
    """Look through a folder that has one sub-folder of images a class.

    Raises:
        ValueError: there are no sub-folders, or one holds no image.
    """
    below = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._")
    if not below:
        raise ValueError(f"{folder} has no sub-folders: give each class one, with its images in it")
    files = {p.name: list_images(p) for p in below}
    for name, paths in files.items():
        if not paths:
            raise ValueError(f"class {name!r} in {folder} has no image: add some ({' '.join(sorted(SUFFIXES))})")
    everything = [path for paths in files.values() for path in paths]
    stats = [(path, path.stat()) for path in everything]
    return Scan(files, _channels(everything), [[str(p), s.st_size, s.st_mtime_ns] for p, s in stats])


def read_folder(folder: Path, image_size: int | None = 84, channels: int | None = None) -> FolderImages:
    """Read all the images of one folder, skipping with a warning those that cannot be read.

    Args:
        folder: holds the image files; what is not an image by its suffix is left aside.
        image_size: height and width in pixels to resize to; None if all have one size that should stay.
        channels: 1 or 3; None for 1 if all the images are gray, else 3.

    Returns:
        The images, their files, and how many were skipped.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no image that can be read, or sizes differ with `image_size` None.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder {folder}: give one that holds images")
    read, note = read_files(list_images(Path(folder)), image_size, channels)
    if note:
        log.warning(note)
    if not read.paths:
        raise ValueError(f"{folder} has no image that can be read: add some ({' '.join(sorted(SUFFIXES))})")
    return read


def read_files(paths: Sequence[Path], image_size: int | None, channels: int | None) -> tuple[FolderImages, str]:
    """Read image files as `read_folder` does; return them and a line on those skipped, "" if none was."""
    channels = channels or _channels(paths)
    arrays, kept, bad = [], [], []
    for path in paths:
        try:
            with Image.open(path) as image:
                arrays.append(to_array(ImageOps.exif_transpose(image), image_size, channels))
            kept.append(path)
        except Exception as error:  # Pillow's plugins raise of all kinds on damaged files
            bad.append(f"{path} ({type(error).__name__})")
    if len({a.shape for a in arrays}) > 1:
        raise ValueError(f"images of {len({a.shape for a in arrays})} sizes in {kept[0].parent}: give image_size")
    note = f"skipped {len(bad)} of {len(paths)} images that cannot be read: " if bad else ""
    note += ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    images = np.stack(arrays) if arrays else np.zeros((0, image_size or 0, image_size or 0, channels), np.uint8)
    return FolderImages(images, tuple(kept), len(bad)), note


def read_classes(scan: Scan, image_size: int, channels: int) -> Labelled:
    """Read what `scan_classes` found.

    Raises:
        ValueError: a class has no image that can be read.
    """
    images, labels, notes = [], [], []
    for label, (name, paths) in enumerate(scan.files.items()):
        read, note = read_files(paths, image_size, channels)
        if not read.paths:
            raise ValueError(f"class {name!r} runs empty, {note}: replace these files or remove the class")
        images.append(read.images)
        labels += [label] * len(read.paths)
        notes += [note] if note else []
    return Labelled(np.concatenate(images), np.asarray(labels, np.int32), tuple(scan.files), tuple(notes))


def _channels(paths: Sequence[Path]) -> int:
    """1 if all the images are gray by their headers, else 3; those that cannot be read have no say."""
    for path in paths:
        try:
            with Image.open(path) as image:
                if image.mode not in ("1", "L", "LA", "La") and image.mode[0] not in "IF":
                    return 3
        except Exception as error:
            log.debug("%s: %s", path, error)
    return 1
