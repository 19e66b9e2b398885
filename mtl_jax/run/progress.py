"""A progress line on standard error: loss, accuracy, tasks per second and the time left."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """A callback of `train`: a bar on a terminal; elsewhere one line per validation."""

    def __init__(self, steps: int, label: str = "train"):
        self._steps, self._label = steps, label
        self._console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(label, total=steps, figures="compiling, up to half a minute ...")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show the latest row of figures."""
        names = ("loss", "accuracy", "mse", "val_accuracy", "val_mse")
        parts = [f"{n} {row[n]:.4g}" for n in names if n in row and (n != "mse" or row["mse"] != row["loss"])]
        figures = "  ".join([*parts, f"{row['tasks_per_s']:.0f} tasks/s"])
        self._bar.update(self._task, completed=row["step"], figures=figures)
        if not self._console.is_terminal and any(n.startswith("val_") for n in row):
            self._console.print(
                f"{self._label} {row['step']}/{self._steps}  {figures}", highlight=False, soft_wrap=True
            )


def announce(wait: str) -> None:
    """Say on a terminal what takes more than a moment, and how long; where standard error is none, nothing."""
    if sys.stderr.isatty():
        print(f"mtl-jax: {wait} ...", file=sys.stderr, flush=True)


@contextmanager
def shown(wanted: bool | None, steps: int, label: str = "train") -> Iterator[tuple[Progress, ...]]:
    """The callbacks that show a training: a Progress where it is wanted, or unless told where there is a terminal."""
    if sys.stderr.isatty() if wanted is None else wanted:
        with Progress(steps, label) as bar:
            yield (bar,)
    else:
        yield ()


@contextmanager
def counted(things: str) -> Iterator[Callable[[int, int, float], None]]:
    """A function of (done, all, rate per second) that shows them: a bar on a terminal, elsewhere a line at the end."""
    console = Console(stderr=True)
    columns = (TextColumn(things), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    bar = Bar(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
    task = bar.add_task(things, total=None, rate="compiling ...")

    def say(done: int, total: int, rate: float) -> None:
        unknown = "read from before" if done else "compiling ..."
        bar.update(task, completed=done, total=total, rate=f"{rate:.0f} {things}/s" if rate else unknown)

    with bar:
        yield say
