"""csv:/file.csv: a table of numbers with a label per row, or of texts, which a sentence encoder turns into vectors."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtl_jax.data.cache import Labelled, by_class
from mtl_jax.data.sets import text
from mtl_jax.data.sets.source import ANY_SPLIT, DataSet, Part, Request
from mtl_jax.data.tree import FOLDERS

ABOUT = (
    "csv:/file.csv  a header, a label column, and either numeric columns or one of texts (then sentence vectors of a "
    "BERT); a column named split (train, val, test), else classes are split 64/16/20"
)
OPTIONS = {
    "label": "the label column (label, class, category, intent, target or y, else the last)",
    "text": "the column of texts (text, sentence, query or utterance, else the only one that holds no numbers)",
    "encoder": f"folder or installed package with model.safetensors and tokenizer.json ({text.ENCODER})",
    "seed": "of the draw that splits the classes (0), where there is no column named split",
}
LABELS = ("label", "class", "category", "intent", "target", "y")
TEXTS = ("text", "sentence", "query", "utterance")


def open_set(request: Request) -> DataSet:
    """Read a table; its texts are encoded when a split is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no such columns, or a cell is empty or no number.
    """
    path = Path(request.where).expanduser()
    header, rows = _read(path)
    label = _column(path, header, request.options.get("label"), LABELS) or header[-1]
    split = next((name for name in header if name.lower() == "split" and name != label), None)
    rest = [name for name in header if name not in (label, split)]
    column = {name: [row[i].strip() for row in rows] for i, name in enumerate(header)}
    words = [name for name in rest if not all(map(_is_number, column[name]))]
    chosen = _text_column(path, request.options.get("text"), rest, words, column)
    labels = column[label]
    if "" in labels:
        raise ValueError(f"{path}: line {labels.index('') + 2} has no {label}: fill it, or drop the line")
    used = [chosen] if chosen else rest
    if not used:
        raise ValueError(f"{path} has no column beside {label}: give numbers or texts")
    rows_of = _splits(path, column[split] if split else [], len(rows))
    notes: tuple[str, ...] = ()
    if chosen and len(rest) > 1:
        notes = (f"{path}: texts are those of {chosen}; left out {', '.join(n for n in rest if n != chosen)}",)
    if chosen:
        encoder = request.options.get("encoder", text.ENCODER)
        parts = {key: _texts(request, encoder, column[chosen], labels, which) for key, which in rows_of.items()}
        return DataSet(parts, (text.width(encoder),), images=False, notes=notes)
    x = np.asarray([[float(value) for value in column[name]] for name in used], np.float32).T
    if not (finite := np.isfinite(x).all(1)).all():
        raise ValueError(f"{path}: line {int(finite.argmin()) + 2} is not finite: fill it, or drop the line")
    return DataSet({key: _numbers(x, labels, which) for key, which in rows_of.items()}, x.shape[1:], images=False)


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give a CSV file with a header and a label column")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            lines = [row for row in csv.reader(file, delimiter=max(",\t;", key=first.count)) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path} as CSV in UTF-8: {error}") from error
    if len(lines) < 2:
        raise ValueError(f"{path} has no rows below its header" if lines else f"{path} is empty")
    header, *rows = lines
    header = [name.strip() for name in header]
    if len(set(header)) < len(header) or any(map(_is_number, header)):
        raise ValueError(f"{path}: the first line must name each column once, not be {first.strip()[:60]!r}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"{path}: line {number} has {len(row)} cells, the header has {len(header)}")
    return header, rows


def _column(path: Path, header: Sequence[str], asked: str | None, usual: Sequence[str]) -> str | None:
    if asked is not None:
        if asked not in header:
            raise ValueError(f"{path} has no column {asked!r}: choose one of {', '.join(header)}")
        return asked
    lower = {name.lower(): name for name in header}
    return next((lower[name] for name in usual if name in lower), None)


def _text_column(
    path: Path, asked: str | None, rest: Sequence[str], words: Sequence[str], column: dict[str, list[str]]
) -> str | None:
    """The column of texts: the one asked for, the only one there is, or one of a usual name; None without words."""
    chosen = _column(path, list(rest) if asked else list(words), asked, TEXTS)
    if chosen or not words:
        return chosen
    if len(rest) == 1:
        return words[0]
    example = next(cell for cell in column[words[0]] if not _is_number(cell))
    raise ValueError(
        f"{path}: column {words[0]!r} holds {example[:40]!r}, which is no number: fill or drop it, or name the column "
        f"of texts with ?text={words[0]}"
    )


def _splits(path: Path, column: Sequence[str], rows: int) -> dict[str, np.ndarray]:
    """The rows of each split."""
    if not column:
        return {ANY_SPLIT: np.arange(rows)}
    named = {name: split for split, names in FOLDERS.items() for name in names}
    if strange := sorted({name for name in column if name.lower() not in named}):
        raise ValueError(f"{path} has a split {strange[0]!r}: name them train, val, test")
    split = np.asarray([named[name.lower()] for name in column])
    return {name: np.flatnonzero(split == name) for name in FOLDERS if (split == name).any()}


def _numbers(x: np.ndarray, labels: Sequence[str], rows: np.ndarray) -> Part:
    names, y = np.unique(np.asarray(labels)[rows], return_inverse=True)
    called = tuple(map(str, names))
    return Part(called, lambda wanted: by_class(x[rows], y, called))


def _texts(request: Request, encoder: str, texts: Sequence[str], labels: Sequence[str], rows: np.ndarray) -> Part:
    names, y = np.unique(np.asarray(labels)[rows], return_inverse=True)
    called = tuple(map(str, names))

    def read(wanted: frozenset[str] | None) -> Labelled:
        kept = [i for i, number in enumerate(y) if wanted is None or called[number] in wanted]
        x = text.encoded([texts[rows[i]] for i in kept], encoder, request.cache_dir)
        return by_class(x, y[kept], called)

    return Part(called, read)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
