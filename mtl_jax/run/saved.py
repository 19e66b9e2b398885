"""Which steps of a run are saved, and what checkpoints.json says of them: digests and validation scores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def saved_steps(folder: Path) -> list[int]:
    """The steps that were written whole, in order."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def index_file(folder: Path) -> Path:
    """Where each step's digests and score stand."""
    return folder.parent / "checkpoints.json"


def read_index(folder: Path) -> dict[str, Any]:
    """Each step's digests and score; nothing where there is none, as in runs of version 0.1.0."""
    try:
        found = json.loads(index_file(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def check_kept(keep_best: int, steps: int, val_every: int, validates: bool, writes: bool) -> None:
    """ValueError unless a run of `steps` can keep the checkpoints of its `keep_best` best validations."""
    if keep_best == 1:
        return
    if not (validates and writes):
        lacks = "a validation pool to choose them by" if writes else "a folder `out` to keep them in"
        raise ValueError(f"keep_best {keep_best} wants {lacks}: give one, or leave it at 1")
    if keep_best > (times := -(-steps // val_every)):
        raise ValueError(
            f"keep_best {keep_best} wants as many validations, and {steps} steps with one every {val_every} have "
            f"{times}: lower val_every to {max(1, steps // keep_best)}, or keep_best"
        )


def read_scores(folder: Path, index: Mapping[str, Any] | None = None) -> dict[int, float]:
    """{step: validation score} of the saved steps that have one, best first, and of equals the earlier first.

    Args:
        folder: the run's checkpoints folder.
        index: what `read_index` shall say of it, where that is not written yet.
    """
    index = read_index(folder) if index is None else index
    found = {step: _score(folder, index, step) for step in saved_steps(folder)}
    scores = {step: score for step, score in found.items() if score is not None}
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))


def _score(folder: Path, index: Mapping[str, Any], step: int) -> float | None:
    """A step's validation score; version 0.1.0 left it in the step's own folder."""
    if str(step) in index:
        return index[str(step)].get("score")
    try:
        return float(json.loads((folder / str(step) / "metrics" / "metrics").read_text(encoding="utf-8"))["score"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
