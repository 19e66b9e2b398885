"""A run's folder: config.json, metrics.jsonl, checkpoints/ and result.json."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_jax.run import checkpoint
from mtl_jax.run.metrics import append_jsonl, read_jsonl, write_json
from mtl_jax.types import TrainState


def fresh_folder(path: str | os.PathLike[str]) -> Path:
    """`path`, or `path`-2, -3, ... where that exists already."""
    folder, number = Path(path), 1
    while folder.exists():
        number += 1
        folder = Path(f"{path}-{number}")
    return folder


class RunFolder:
    """Where a run keeps what it did; `close` it at the end.

    Attributes:
        history: the rows logged so far, those of the run before it was resumed included.
    """

    def __init__(self, path: str | os.PathLike[str], config: Mapping[str, Any] | None = None, resume: bool = False):
        """Open a folder for a new run, or an old run's to go on.

        Raises:
            ValueError: the folder holds a run and `resume` is not set, is set and there is none, or holds other files.
        """
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file: give a folder for the run")
        ran = (self.path / "checkpoints").exists() or (self.path / "metrics.jsonl").exists()
        if ran and not resume:
            raise ValueError(f"{self.path} already holds a run: add --resume to go on, or choose another folder")
        if resume and not ran:
            raise ValueError(f"nothing to resume in {self.path}: it holds no run; leave --resume out to start one")
        self.history: list[dict[str, Any]] = []
        self._config = config
        self._manager: Any = None

    def restore(self, like: TrainState) -> tuple[TrainState, Any, float | None]:
        """(last state, theta of the best one or None, its score), and the history up to the last state.

        Raises:
            CheckpointError: see `checkpoint.restore`.
        """
        state = checkpoint.restore(self.path / "checkpoints", like)
        rows = read_jsonl(self.path / "metrics.jsonl")
        self.history = [row for row in rows if row["step"] <= int(state.step)]
        score = checkpoint.best_score(self.path / "checkpoints")
        best = None if score is None else checkpoint.restore(self.path / "checkpoints", like, best=True).theta
        return state, best, score

    def start(self) -> None:
        """Make the folder, write its config, and leave only this run's history in metrics.jsonl."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self._config is not None:
            write_json(self.path / "config.json", self._config)
        temporary = self.path / "metrics.jsonl.tmp"
        temporary.write_text("")
        for row in self.history:
            append_jsonl(temporary, row)
        os.replace(temporary, self.path / "metrics.jsonl")
        self._manager = checkpoint.open_manager(self.path / "checkpoints")

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row to the history."""
        append_jsonl(self.path / "metrics.jsonl", row)

    def save(self, state: TrainState, score: float | None) -> None:
        """Write a checkpoint; `score` is its validation score, if it has one."""
        checkpoint.save(self._manager, state, score)

    def close(self) -> None:
        """Finish writing."""
        if self._manager is not None:
            self._manager.close()
