"""The pictures that predict is given: a support set by class, and queries, whose classes may be known."""

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtl_jax.data import images
from mtl_jax.data.tree import files_below

NONE = -1  # the label of a query that is of none of the classes

log = getLogger(__name__)


class Support(NamedTuple):
    """The labelled images that a learner adapts to.

    Attributes:
        images: [n, size, size, channels] uint8, class by class.
        labels: [n] int32 in [0, classes).
        names: [classes], the sub-folders' names.
        paths: [n] their files.
        skipped: files that could not be read.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    skipped: tuple[Path, ...]


class Queries(NamedTuple):
    """The images to be named.

    Attributes:
        images: [n, size, size, channels] uint8.
        paths: [n] their files.
        truth: [n] int32, the class that each one's folder names, NONE for none of the support set's; None if unknown.
        skipped: files that could not be read.
    """

    images: np.ndarray
    paths: tuple[Path, ...]
    truth: np.ndarray | None
    skipped: tuple[Path, ...]


def read_support(folder: Path, size: int, channels: int, quiet: bool = False) -> Support:
    """Read a folder that has one sub-folder of images per class; classes may differ in size.

    Args:
        folder: the support set.
        size, channels: of the images wanted.
        quiet: leave out the notes on what was left out, which another reading has told.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no sub-folders, or a class has no image that can be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: give --support a folder with one sub-folder of images per class")
    scan = images.scan_classes(folder)
    known, paths = images.read_labelled(scan, size, channels)
    for note in () if quiet else known.notes:
        log.warning(note)
    skipped = tuple(sorted({path for each in scan.files.values() for path in each} - set(paths)))
    return Support(known.images, np.asarray(known.labels), known.names, paths, skipped)


def read_queries(
    query: Sequence[Path], names: Sequence[str], size: int, channels: int, others: bool = False, quiet: bool = False
) -> Queries:
    """Read image files, one folder of them, or one folder with a sub-folder per class, whose accuracy is then known.

    Args:
        query: image files, or one folder.
        names: the support set's classes.
        size, channels: of the images wanted.
        others: whether sub-folders may have other names: their images are of none of the classes.
        quiet: as in `read_support`.

    Raises:
        FileNotFoundError: a file or folder does not exist.
        ValueError: sub-folders of other names than the classes', or no image that can be read.
    """
    if len(query) == 1 and query[0].is_dir():
        loose = images.list_images(query[0])
        classes = _class_folders(query[0])
        if classes and (not loose or all(folder.name in names for folder in classes)):
            return _read_classes(query[0], classes, names, size, channels, others, quiet)
        if classes and not quiet:
            log.warning("%s: left out the images in %s: no classes' names", query[0], _listed(classes))
        if not loose:
            raise ValueError(f"{query[0]} has no images: give --query a folder that holds some, or image files")
        return _readable(loose, None, size, channels, quiet)
    for path in query:
        if path.is_dir():
            raise ValueError(f"{path} is a folder beside others: give --query one folder, or image files")
        if not path.is_file():
            raise FileNotFoundError(f"no image or folder {path}: give --query one folder, or image files")
    return _readable(list(query), None, size, channels, quiet)


def _class_folders(folder: Path) -> list[Path]:
    """The sub-folders that hold images, hidden ones aside."""
    below = (p for p in sorted(folder.iterdir()) if p.is_dir() and p.name[0] not in "._")
    return [p for p in below if files_below(p, images.SUFFIXES)]


def _read_classes(
    folder: Path, classes: Sequence[Path], names: Sequence[str], size: int, channels: int, others: bool, quiet: bool
) -> Queries:
    odd = [each for each in classes if each.name not in names]
    if odd and not others:
        raise ValueError(
            f"{folder} has {_listed(odd)}, which the support set has not ({_some(names)}): name the folders alike, "
            "or give --reject RATE, which takes them for none of the classes"
        )
    if odd and not quiet:
        log.warning("%s: %s: right where the class is left empty", folder, _listed(odd))
    if (loose := images.list_images(folder)) and not quiet:
        log.warning("%s: left out %d images that lie beside the classes' folders", folder, len(loose))
    truth = {
        path: names.index(each.name) if each.name in names else NONE
        for each in classes
        for path in files_below(each, images.SUFFIXES)
    }
    return _readable(list(truth), truth, size, channels, quiet)


def _readable(paths: list[Path], truth: dict[Path, int] | None, size: int, channels: int, quiet: bool) -> Queries:
    read, note = images.read_files(paths, size, channels)
    if not read.paths:
        raise ValueError(f"none of the query images can be read: {note}")
    if note and not quiet:
        log.warning(note)
    labels = None if truth is None else np.asarray([truth[path] for path in read.paths], np.int32)
    kept = set(read.paths)
    return Queries(read.images, read.paths, labels, tuple(path for path in paths if path not in kept))


def _listed(folders: Sequence[Path]) -> str:
    return _some([f"{each.name}/" for each in folders])


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
