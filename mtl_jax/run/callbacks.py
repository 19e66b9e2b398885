"""Callbacks for `train`: functions of a logged row that watch a run, and may end it."""

import math
from os import PathLike
from typing import Any


class EarlyStopping:
    """Ends a run whose validation has not become better for a while; the best parameters are kept as ever."""

    def __init__(self, patience: int, metric: str = "val_accuracy", least: float = 0.0):
        """Watch one figure of the rows that have it.

        Args:
            patience: validations without a better score before the run ends, at least 1.
            metric: the figure; one that begins with "val_mse" or "loss" is better when lower.
            least: by how much a score must be better to count.

        Raises:
            ValueError: patience below 1 or least below 0.
        """
        if patience < 1 or least < 0:
            raise ValueError(f"want patience of at least 1 and least of at least 0, not {patience} and {least}")
        self.patience, self.metric, self.least = patience, metric, least
        self._sign = -1.0 if metric.startswith(("val_mse", "mse", "loss")) else 1.0
        self._best, self._since = -math.inf, 0

    def __call__(self, row: dict[str, Any]) -> bool:
        """Whether to stop."""
        if self.metric not in row:
            return False
        score = self._sign * row[self.metric]
        better = score > self._best + self.least if math.isfinite(self._best) else math.isfinite(score)
        self._best, self._since = (score, 0) if better else (self._best, self._since + 1)
        return self._since >= self.patience


class TensorBoardWriter:
    """Writes every figure of the rows for TensorBoard; needs the extra [tensorboard]."""

    def __init__(self, folder: str | PathLike[str]):
        """Open an event file in `folder`.

        Raises:
            ValueError: tensorboardX is not installed.
        """
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ValueError('TensorBoard files need tensorboardX: pip install "mtl_jax[tensorboard]"') from error
        self._writer = SummaryWriter(str(folder))

    def __call__(self, row: dict[str, Any]) -> None:
        """Write one row at its step."""
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Finish writing."""
        self._writer.close()
