"""folder:/path: a folder of images per class, or a flat folder with a CSV that says which image is of which class."""

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from mtl_jax.data import images
from mtl_jax.data.cache import Labelled, cached
from mtl_jax.data.sets.source import ANY_SPLIT, DataSet, Part, Request
from mtl_jax.data.tree import FOLDERS, class_tree, fingerprint, split_folders

ABOUT = (
    "folder:/path  one sub-folder of images per class, below train/, val/ and test/ where these exist (else classes "
    "are split 64/16/20); or images and a CSV with columns filename, label and, if wanted, split"
)
OPTIONS = {
    "seed": "of the draw that splits the classes (0), where no folders do",
    "group": "regular expression; images for which it finds the same in FOLDER/NAME, such as frames of one thing, are "
    "never in support and query of one task",
}
FILE_COLUMNS = ("filename", "file_name", "file", "image", "image_id", "path", "name", "id")
LABEL_COLUMNS = ("label", "class", "category", "y", "target")
SIZE = 84  # pixels, unless told otherwise

Files = dict[str, list[Path]]  # class -> its files


def open_set(request: Request) -> DataSet:
    """Find the classes of a folder and the splits they are in.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no classes, or one without an image.
    """
    root, size = Path(request.where).expanduser(), request.image_size or SIZE
    found, notes = split_folders(root, "images")
    if not found and (tables := _tables(root)):
        classes, notes = _listed(root, tables)
    else:
        trees = {s: class_tree(path, images.SUFFIXES, "images") for s, path in (found or {ANY_SPLIT: root}).items()}
        classes = {split: tree.files for split, tree in trees.items()}
        notes += tuple(note for tree in trees.values() for note in tree.notes)
    everything = [path for files in classes.values() for paths in files.values() for path in paths]
    channels = request.channels or images.channels_of(everything)  # of all splits: they must agree
    parts = {split: _part(request, files, size, channels) for split, files in classes.items()}
    return DataSet(parts, (size, size, channels), augment="flip_crop", notes=notes)


def _part(request: Request, files: Files, size: int, channels: int) -> Part:
    def read(wanted: frozenset[str] | None) -> Labelled:
        chosen = {name: paths for name, paths in files.items() if wanted is None or name in wanted}
        scan = images.Scan(chosen, channels, fingerprint(path for paths in chosen.values() for path in paths))
        group = request.options.get("group")
        make = partial(images.read_classes, scan, size, channels, group)
        key = ["folder", size, channels, scan.fingerprint, *([] if group is None else [group])]
        return cached("folder", key, make, request.cache_dir)

    return Part(tuple(files), read)


def _tables(root: Path) -> list[tuple[Path, dict[str, str]]]:
    """The CSV files of a folder that have a column of files and one of labels, and what these columns are called."""
    found = []
    for path in sorted(root.glob("*.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = {name.strip().lower(): name for name in next(csv.reader(file), [])}
        which = {"file": _first(header, FILE_COLUMNS), "label": _first(header, LABEL_COLUMNS)}
        if which["file"] and which["label"]:
            found.append((path, which | {"split": header.get("split", "")}))
    return found


def _first(header: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((header[name] for name in names if name in header), "")


def _listed(root: Path, tables: list[tuple[Path, dict[str, str]]]) -> tuple[dict[str, Files], tuple[str, ...]]:
    """The classes of each split as CSV files list them; train.csv, val.csv and test.csv are splits."""
    named = {name: split for split, names in FOLDERS.items() for name in names}
    by_file = [(path, which, named.get(path.stem.lower(), "")) for path, which in tables]
    if any(split for *_, split in by_file):
        by_file = [each for each in by_file if each[2]]
    elif len(by_file) > 1:
        raise ValueError(f"{root} has {len(by_file)} CSV files with files and labels: leave one, or name them by split")
    classes: dict[str, Files] = {}
    missing: list[str] = []
    for table, which, split in by_file:
        with table.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                key = split or named.get((row[which["split"]] or "").strip().lower(), "?") if which["split"] else split
                if key == "?":
                    raise ValueError(f"{table} has a split {row[which['split']]!r}: name it train, val or test")
                name, label = ((row[which[part]] or "").strip() for part in ("file", "label"))
                path = _find(root, name)
                if path is None:
                    missing.append(name)
                else:
                    classes.setdefault(key, {}).setdefault(label, []).append(path)
    tables_read = ", ".join(table.name for table, *_ in by_file)
    if not classes:
        raise ValueError(f"{tables_read} in {root} lists no file that is there: {missing[0] if missing else 'no rows'}")
    notes = [f"{root}: classes are those of {tables_read}"]
    if missing:
        notes.append(f"{root}: {tables_read} lists {len(missing)} files that are not there: {', '.join(missing[:5])}")
    return {split: dict(sorted(classes[split].items())) for split in classes}, tuple(notes)


def _find(root: Path, name: str) -> Path | None:
    """The file that a row means: beside the CSV, or in images/; its suffix may be left out."""
    for base in (root, root / "images"):
        for candidate in (base / name, *((base / f"{name}{suffix}") for suffix in (".jpg", ".png", ".jpeg"))):
            if candidate.is_file():
                return candidate
    return None
