"""RegressionPool: a table of many small regression tasks, and the tasks drawn from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.data.distinct import draw_distinct
from mtl_jax.data.pool import check_finite
from mtl_jax.types import Array, Episode


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["x", "y", "start", "count"],
    meta_fields=["smallest", "largest", "names", "about"],
)
@dataclass(frozen=True)
class RegressionPool:
    """Rows sorted by task; tasks may differ in size.

    Attributes:
        x: [n, ...] float32 inputs, sorted by task.
        y: [n, outputs] float32 targets.
        start: [tasks] int32, where each task begins in `x`.
        count: [tasks] int32, how many rows each task has.
        smallest: rows of the smallest task (static, so that requests are checked while tracing).
        largest: rows of the largest task (static).
        names: the tasks, as the caller calls them, in their sorted order.
        about: what the pool is, for messages; "" where nobody said.
    """

    x: Array
    y: Array
    start: Array
    count: Array
    smallest: int
    largest: int
    names: tuple[str, ...] = field(default=())
    about: str = ""

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return self.start.shape[0]

    @property
    def outputs(self) -> int:
        """Number of targets per row."""
        return self.y.shape[1]

    @property
    def on_host(self) -> bool:
        """False: its rows are on the device."""
        return False

    @classmethod
    def from_arrays(
        cls,
        x: np.ndarray | Array | Sequence[Any],
        y: np.ndarray | Array | Sequence[Any],
        task: np.ndarray | Sequence[Any],
        about: str = "",
    ) -> "RegressionPool":
        """Build a pool from rows in any order.

        Args:
            x: floats [n, ...], which become float32.
            y: float targets [n, outputs], or [n] for one output, which become float32.
            task: [n] integers or strings: which task each row belongs to.
            about: what the pool is, for messages.

        Returns:
            The pool, on the default device. Inputs and targets are not scaled: do that before, from training tasks.

        Raises:
            ValueError: shapes or dtypes do not fit, a value is not finite, or there is no row.
        """
        inputs, targets, which = np.asarray(x), np.asarray(y), np.asarray(task)
        for name, array in (("x", inputs), ("y", targets)):
            if not np.issubdtype(array.dtype, np.floating):
                raise ValueError(f"{name} must be floats, not {array.dtype}: convert it, or use ClassPool for classes")
        targets = targets[:, None] if targets.ndim == 1 else targets
        n = len(which) if which.ndim == 1 else 0
        if not n or inputs.ndim < 2 or targets.ndim != 2 or {len(inputs), len(targets)} != {n}:
            raise ValueError(
                f"x {inputs.shape}, y {np.shape(y)} and task {which.shape} do not fit: "
                "want x [n, ...], y [n] or [n, outputs] and task [n], n > 0"
            )
        names, inverse, count = np.unique(which, return_inverse=True, return_counts=True)
        order = np.argsort(inverse, kind="stable")
        with np.errstate(over="ignore"):  # too large for float32 is infinite, which is refused below
            inputs, targets = inputs.astype(np.float32), targets.astype(np.float32)
        check_finite(inputs)
        check_finite(targets, "y")
        return cls(
            x=jnp.array(inputs[order]),
            y=jnp.array(targets[order]),
            start=jnp.asarray(np.concatenate([[0], np.cumsum(count)[:-1]]), jnp.int32),
            count=jnp.asarray(count, jnp.int32),
            smallest=int(count.min()),
            largest=int(count.max()),
            names=tuple(map(str, names)),
            about=about,
        )


def check_rows(pool: RegressionPool, shots: int, queries: int, augment: str = "none") -> None:
    """Raise ValueError, which names the smallest task, unless each task has rows for support and query sets."""
    for name, value in (("shots", shots), ("queries", queries)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if augment != "none":
        raise ValueError(f"augment {augment!r} is for images of a ClassPool, not for regression tasks: leave it out")
    if shots + queries > pool.smallest:
        of = f" ({pool.about})" if pool.about else ""
        raise ValueError(
            f"{shots} shots + {queries} queries, but the smallest task has {pool.smallest} rows{of}: "
            f"ask for at most {pool.smallest} together, or leave out tasks that small"
        )


def sample_regression(key: Array, pool: RegressionPool, shots: int = 10, queries: int = 10) -> Episode:
    """Draw one task, and of its rows disjoint support and query sets.

    Args:
        key: a JAX random key.
        pool: what to draw from; every task is as likely, whatever its size.
        shots: support rows.
        queries: query rows.

    Returns:
        Episode with support_x [shots, ...], support_y [shots, outputs], query_x and query_y alike with `queries` in
        place of `shots`, all float32, and classes None.

    Raises:
        ValueError: shots or queries below 1, or more than the smallest task has (while tracing).
    """
    check_rows(pool, shots, queries)
    task_key, row_key = jax.random.split(key)
    task = jax.random.randint(task_key, (), 0, pool.tasks)
    rows = pool.start[task] + draw_distinct(row_key, pool.count[task], pool.largest, shots + queries)
    x, y = pool.x[rows], pool.y[rows]
    return Episode(support_x=x[:shots], support_y=y[:shots], query_x=x[shots:], query_y=y[shots:])
