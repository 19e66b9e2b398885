"""Folders of classes: which files belong to which class and which split, and what is left out."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

SPLITS = ("train", "val", "test")
FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # by which names


class Tree(NamedTuple):
    """The classes below a folder.

    Attributes:
        files: each class's name -> its files, in the order of their paths.
        notes: what was left out or pooled, one line each.
    """

    files: dict[str, list[Path]]
    notes: tuple[str, ...]


def split_folders(root: Path, what: str) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Where each split's classes are, if folders named after splits hold some; and notes on what stands beside.

    Args:
        root: the data set's folder.
        what: what a class holds, for messages: "images".

    Returns:
        (split -> folder, {} if no split has a folder of its own; notes).

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: two folders are one split.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: give one with one sub-folder of {what} per class")
    found: dict[str, Path] = {}
    for split, names in FOLDERS.items():
        there = [root / n for n in names if (root / n).is_dir() and any(p.is_dir() for p in (root / n).iterdir())]
        if len(there) > 1:
            raise ValueError(f"{root} has {' and '.join(f'{p.name}/' for p in there)}: leave one, the {split} split")
        if there:
            found[split] = there[0]
    beside = [p.name for p in _folders(root) if found and p not in found.values()]
    note = f"{root}: left out {_some(beside)} beside {', '.join(f'{p.name}/' for p in found.values())}"
    return found, ((note,) if beside else ())


def class_tree(folder: Path, suffixes: Collection[str], what: str) -> Tree:
    """Look through a folder that has one sub-folder per class; files in folders below a class are the class's too.

    Folders whose names begin with "_" or "." are no classes: those that hold files are named in the notes.

    Raises:
        ValueError: there are no sub-folders, or one holds no file of these suffixes.
    """
    below = [p for p in _folders(folder) if p.name[0] not in "._"]
    if not below:
        raise ValueError(f"{folder} has no sub-folders: give each class one, with its {what} in it")
    files = {p.name: files_below(p, suffixes) for p in below}
    for name, paths in files.items():
        if not paths:
            kinds = " ".join(sorted(suffixes))
            raise ValueError(f"class {name!r} in {folder} has no {what[:-1]}: add some ({kinds})")
    hidden = {p.name: len(files_below(p, suffixes)) for p in _folders(folder) if p.name[0] in "._"}
    aside = [f"{name} ({n} {what})" for name, n in hidden.items() if n]
    loose = len(list_files(folder, suffixes))
    deep = [name for name, paths in files.items() if any(p.parent != folder / name for p in paths)]
    notes = []
    if aside:
        notes.append(f"{folder}: left out {_some(aside)}: a class's name begins with neither _ nor .")
    if loose:
        notes.append(f"{folder}: left out {loose} {what} that lie beside the classes' folders")
    if deep:
        notes.append(
            f"{folder}: {what} in folders below {_some(deep)} are counted to {'it' if len(deep) == 1 else 'them'}"
        )
    return Tree(files, tuple(notes))


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of one folder, known by their suffix, in the order of their names."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and p.is_file() and p.name[0] != ".")


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of a folder and of all below it, hidden ones aside, in the order of their paths."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    return sorted(p for p in found if not any(part[0] == "." for part in p.relative_to(folder).parts))


def fingerprint(paths: Iterable[Path]) -> list[list[object]]:
    """[file, bytes, mtime in ns] of every file: part of a cache's key, so that changed files are read again."""
    return [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in ((p, p.stat()) for p in paths)]


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir())


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
