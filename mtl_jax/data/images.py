"""Image files and folders of them into uint8 arrays of one size."""

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

# what other modules know this one for
from mtl_jax.data.cache import Labelled as Labelled
from mtl_jax.data.cache import cache_folder as cache_folder
from mtl_jax.data.cache import cached as cached
from mtl_jax.data.pixels import recolour as recolour
from mtl_jax.data.pixels import resize as resize
from mtl_jax.data.pixels import to_array as to_array
from mtl_jax.data.tree import SPLITS as SPLITS
from mtl_jax.data.tree import class_tree, fingerprint, list_files

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"))

MOST_PIXELS = 100 * 10**6  # of one image when it is decoded

log = logging.getLogger(__name__)


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


class Scan(NamedTuple):
    """What a folder of classes holds, found without decoding a pixel.

    Attributes:
        files: each class's name -> its image files.
        channels: 1 if all the images are gray, else 3.
        fingerprint: [file, bytes, mtime in ns] of every file.
        notes: what a person should be told about the folder, one line each.
    """

    files: dict[str, list[Path]]
    channels: int
    fingerprint: list[list[object]]
    notes: tuple[str, ...] = ()


def list_images(folder: Path) -> list[Path]:
    """Return the image files of one folder, known by their suffix, in the order of their names."""
    return list_files(folder, SUFFIXES)


def scan_classes(folder: Path) -> Scan:
    """Look through a folder that has one sub-folder of images per class, at any depth below it.

    Raises:
        ValueError: there are no sub-folders, or one holds no image.
    """
    return scan_files(*class_tree(folder, SUFFIXES, "images"))


def scan_files(files: dict[str, list[Path]], notes: tuple[str, ...] = ()) -> Scan:
    """The Scan of each class's files."""
    everything = [path for paths in files.values() for path in paths]
    return Scan(files, channels_of(everything), fingerprint(everything), notes)


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
    channels = channels or channels_of(paths)
    arrays, kept, bad = [], [], []
    for path in paths:
        try:
            with open_upright(path, image_size and 2 * image_size) as image:
                arrays.append(to_array(image, image_size, channels))
            kept.append(path)
        except Exception as error:  # Pillow's plugins raise of all kinds on damaged files
            said = str(error) if str(error).startswith(("gray values", "over ")) else type(error).__name__
            bad.append(f"{path} ({said})")
    if len({a.shape for a in arrays}) > 1:
        raise ValueError(f"images of {len({a.shape for a in arrays})} sizes in {kept[0].parent}: give image_size")
    note = f"skipped {len(bad)} of {len(paths)} images that cannot be read: " if bad else ""
    note += ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    images = np.stack(arrays) if arrays else np.zeros((0, image_size or 0, image_size or 0, channels), np.uint8)
    return FolderImages(images, tuple(kept), len(bad)), note


@contextmanager
def open_upright(path: Path, side: int | None = None) -> Iterator[Image.Image]:
    """An image as its camera was held; a JPEG is decoded smaller where that leaves `side` pixels.

    Raises:
        ValueError: decoding it would take too much memory.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we say it ourselves
        with Image.open(path) as image:
            if side is not None:
                image.draft(image.mode, (side, side))
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"over {MOST_PIXELS // 10**6} megapixels")
            upright = ImageOps.exif_transpose(image)
            upright.format = image.format  # which says how many bits a gray one has
            yield upright


def read_classes(scan: Scan, image_size: int, channels: int, group: str | None = None) -> Labelled:
    """Read what `scan_classes` found; with a pattern of `groups_of`, the groups too.

    Raises:
        ValueError: a class has no image that can be read, or as `groups_of`.
    """
    read, files = read_labelled(scan, image_size, channels)
    return read if group is None else read._replace(groups=groups_of(files, group))


def groups_of(files: Sequence[Path], pattern: str) -> np.ndarray:
    """[n] the group of each file: those for which a regular expression finds the same in FOLDER/NAME.

    Args:
        files: the files.
        pattern: its first (...) says the group, or all that it finds where it has none.

    Raises:
        ValueError: it is no regular expression, or finds nothing in a file's name.
    """
    try:
        finder = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"group {pattern!r} is no regular expression: {error}") from error
    found = []
    for path in files:
        match = finder.search(f"{path.parent.name}/{path.name}")
        if match is None or match[min(finder.groups, 1)] is None:
            raise ValueError(f"group {pattern!r} finds nothing in {path.parent.name}/{path.name}: give one that does")
        found.append(f"{path.parent.name}\0{match[min(finder.groups, 1)]}")
    return np.unique(found, return_inverse=True)[1].astype(np.int32)


def read_labelled(scan: Scan, image_size: int, channels: int) -> tuple[Labelled, tuple[Path, ...]]:
    """`read_classes`, and the file of each image that could be read."""
    files: list[Path] = []
    images, labels, notes = [], [], list(scan.notes)
    for label, (name, paths) in enumerate(scan.files.items()):
        read, note = read_files(paths, image_size, channels)
        if not read.paths:
            raise ValueError(f"class {name!r} runs empty, {note}: replace these files or remove the class")
        images.append(read.images)
        labels += [label] * len(read.paths)
        files += read.paths
        notes += [note] if note else []
    labelled = Labelled(np.concatenate(images), np.asarray(labels, np.int32), tuple(scan.files), tuple(notes))
    return labelled, tuple(files)


def channels_of(paths: Sequence[Path]) -> int:
    """1 if all the images are gray by their headers, else 3; those that cannot be read have no say."""
    for path in paths:
        try:
            with Image.open(path) as image:
                if image.mode not in ("1", "L", "LA", "La") and image.mode[0] not in "IF":
                    return 3
        except Exception as error:
            log.debug("%s: %s", path, error)
    return 1
