"""Figures of a run: confidence intervals, and the files that hold them."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def ci95(values: Any) -> float:
    """Half-width of the 95 % interval of a mean: 1.96 std(ddof=1) / sqrt(n); nan below two values."""
    values = np.asarray(values, np.float64)
    return float(1.96 * values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan


def ci95_of_seeds(values: Any) -> float:
    """Half-width of the 95 % interval of a mean over a handful of training seeds, by Student's t of n - 1 degrees.

    t_{0.975, n - 1} std(ddof=1) / sqrt(n); nan below two values. With 1.96 in its place, two seeds would cover 70 %.
    """
    from scipy.stats import t  # half a second, which most commands are spared

    values = np.asarray(values, np.float64)
    if values.size < 2:
        return math.nan
    return float(t.ppf(0.975, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size))


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n, by Wilson's score (1927): it holds near 0 and 1 as well."""
    z = 1.96
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def over_shared_episodes(per_episode: Any) -> dict[str, Any]:
    """The mean of several networks' scores on the same episodes, or of their gaps episode by episode.

    The networks' scores of one episode go up and down together, so that S x E values are not S x E samples: the
    interval is that of the E means over networks. What the networks differ by among themselves is said apart.

    Args:
        per_episode: [networks, episodes] scores, or paired differences of two methods' scores.

    Returns:
        "mean"; "ci95", over episodes, for these networks; "seeds", each network's mean; "spread", the standard
        deviation (ddof=1) of these, nan for one network.
    """
    values = np.asarray(per_episode, np.float64)
    if values.ndim != 2:
        raise ValueError(f"want scores [networks, episodes], not {values.shape}")
    means = values.mean(1)
    spread = float(means.std(ddof=1)) if len(means) > 1 else math.nan
    return {"mean": float(values.mean()), "ci95": ci95(values.mean(0)), "seeds": means.tolist(), "spread": spread}


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Add one line to a JSON-lines file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_plain(row)) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; a line cut short by a crash is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all, and the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(_plain(value), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write, which takes its place at the end, or is removed on any error.

    Raises:
        ValueError: `path` is there and is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file: give the name of a file to write")
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
