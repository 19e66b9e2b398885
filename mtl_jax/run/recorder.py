"""Recorder: what a run leaves behind as it goes: history, best parameters, and, in a folder, rows and checkpoints."""

import logging
import math
import os
import platform
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.run import checkpoint
from mtl_jax.run.average import result_theta
from mtl_jax.run.metrics import append_jsonl, read_jsonl, write_json, write_text
from mtl_jax.run.pacing import Window
from mtl_jax.run.processes import is_first, refuse_together
from mtl_jax.run.saved import read_scores
from mtl_jax.types import PyTree, TrainState

log = logging.getLogger(__name__)


class Recorder:
    """One run's history and best parameters, in memory and, given a folder, on disk; `close` it at the end.

    Attributes:
        path: the folder, or None.
        history: one dict per logged row, those of the run before it was resumed included.
        best_theta, best_score: of the best validation so far, the first of equals; None before any.
        running: whether its loss is still finite.
        keep_best: of how many best validations the checkpoints are kept.
    """

    def __init__(
        self,
        path: str | PathLike[str] | None = None,
        config: Mapping[str, Any] | None = None,
        resume: bool = False,
        keep_best: int = 1,
    ):
        """Check a folder for a new run, or an old run's to go on; nothing is written yet.

        Of several processes the first one checks and writes for all; the others read, where a run goes on.

        Raises:
            ValueError: the folder holds a run and `resume` is not set, or is no folder.
        """
        self.path = None if path is None else Path(path).expanduser()
        self.history: list[dict[str, Any]] = []
        self.best_theta: PyTree = None
        self.best_score: float | None = None
        self.running = True
        self.keep_best = keep_best
        self._scores: list[float] = []  # of the best validations, best first
        self.window = Window()
        self._config, self._manager = config, None
        self._lock: Any = None
        if self.path is None:
            return
        problem = None
        if is_first() and self.path.exists() and not self.path.is_dir():
            problem = f"{self.path} is a file: give a folder for the run"
        elif is_first() and self._ran() and not resume:
            problem = f"{self.path} already holds a run: resume it (--resume, or resume=True), or choose another folder"
        refuse_together(problem)

    def restore(self, like: TrainState) -> TrainState:
        """The last state saved in the folder; history and best parameters become those up to it.

        A run that was stopped before its first checkpoint, or never begun, begins: `like` is given back.

        Raises:
            CheckpointError: see `checkpoint.restore`.
            ValueError: another process is writing in the folder.
        """
        assert self.path is not None
        self._hold_together()
        folder = self.path / "checkpoints"
        if not checkpoint.exists(folder):
            return like
        state = checkpoint.restore(folder, like)
        rows = read_jsonl(self.path / "metrics.jsonl")
        self.history = [row for row in rows if row.get("step", math.inf) <= int(state.step)]
        self._scores = list(read_scores(folder).values())[: self.keep_best]
        if self._scores:
            self.best_score = self._scores[0]
            self.best_theta = result_theta(checkpoint.restore(folder, like, best=True))
        return state

    def start(self, step: int = 0) -> None:
        """Make the folder, write its config, and leave only what a run up to `step` has left there.

        Raises:
            ValueError: another process is writing in the folder.
        """
        if self.path is None:
            return
        self._hold_together()
        if not is_first():
            return
        if self._config is not None:
            write_json(self.path / "config.json", self._config)
        write_text(self.path / "metrics.jsonl", "")
        for row in self.history:
            append_jsonl(self.path / "metrics.jsonl", row)
        self._manager = checkpoint.open_manager(self.path / "checkpoints")
        checkpoint.drop_after(self._manager, step)

    def _ran(self) -> bool:
        assert self.path is not None
        return any((self.path / name).exists() for name in ("checkpoints", "metrics.jsonl"))

    def _hold_together(self) -> None:
        """`_hold` in the first process; refused there, the others refuse as well."""
        problem = None
        if is_first():
            try:
                self._hold()
            except ValueError as error:
                problem = str(error)
        refuse_together(problem)

    def _hold(self) -> None:
        """Lock the folder for this process; a process that ends, however it ends, holds it no more."""
        assert self.path is not None
        if self._lock is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self.path / ".lock")

    def judge(self, theta: PyTree, score: float) -> bool:
        """Take in a validation score, higher is better; whether it is among the `keep_best` best so far.

        A score that is not finite never is: such a network would otherwise pass for one that guesses.
        """
        if not math.isfinite(score):
            log.warning("the validation score is not finite: these parameters are not taken for the best")
            return False
        if len(self._scores) == self.keep_best and score <= self._scores[-1]:
            return False
        self._scores = sorted((*self._scores, score), reverse=True)[: self.keep_best]
        if self.best_score is None or score > self.best_score:
            self.best_theta, self.best_score = jax.tree.map(jnp.array, theta), score
        return True

    def log(self, row: dict[str, Any]) -> None:
        """Add a row to the history, and begin the next window of means."""
        self.history.append(row)
        self.window = Window()
        if self.path is not None and is_first():
            append_jsonl(self.path / "metrics.jsonl", row)

    def save(self, state: TrainState, score: float | None = None) -> None:
        """Write a checkpoint; `score` is its validation score if that is among the best so far."""
        if self._manager is not None:
            checkpoint.save(self._manager, state, score, self.keep_best)

    def close(self) -> None:
        """Finish writing, and let go of the folder."""
        if self._manager is not None:
            self._manager.close()
        if self._lock is not None:
            self._lock.close()


def lock(path: Path) -> Any:
    """An open file that this process alone holds; closed, or left by a process that died, it is free again.

    Raises:
        ValueError: another process holds it; the message says which.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no such locks on this system
        return file
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise ValueError(
            f"{path.parent} is being written by {holder}: wait for it, or choose another folder"
        ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()
    return file
