"""Figures of a run: confidence intervals, and the files that hold them."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def ci95(values: Any) -> float:
    """Half-width of the 95 % interval of a mean: 1.96 std(ddof=1) / sqrt(n); nan below two values."""
    values = np.asarray(values, np.float64)
    return float(1.96 * values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line to a JSON-lines file."""
    with path.open("a") as file:
        file.write(json.dumps(_plain(row)) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; a last line cut short by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def read_rows(path: Path, name: str) -> list[dict[str, Any]]:
    """The rows that a record, a JSON file, has under `name`; none where there is no record yet."""
    return json.loads(path.read_text())[name] if path.exists() else []


def fill_methods(
    path: Path, about: Mapping[str, Any], wanted: Sequence[str], measure: Callable[[str], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Measure each method that a record has no row for yet, and write the record after each.

    Args:
        path: the record, a JSON file; other processes may be adding their rows to it.
        about: what it says beside its rows.
        wanted: names of methods.
        measure: name -> its row, with "method" among its keys.

    Returns:
        All rows of the record, which are kept under "methods".
    """
    for name in wanted:
        if name not in {row["method"] for row in read_rows(path, "methods")}:
            row = measure(name)
            write_json(path, {**about, "methods": [*read_rows(path, "methods"), row]})
    return read_rows(path, "methods")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all, and the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(_plain(value), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Array scalars as Python numbers, and what JSON cannot hold (nan, infinities) as null."""

    def plain(v: Any) -> Any:
        if isinstance(v, Mapping):
            return _plain(v)
        if isinstance(v, (list, tuple)):
            return [plain(i) for i in v]
        v = v.item() if hasattr(v, "item") else v
        return None if isinstance(v, float) and not math.isfinite(v) else v

    return {k: plain(v) for k, v in row.items()}
