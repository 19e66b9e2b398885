"""Curves: of learning, accuracy over a setting, the cost of a step, regression; PNG or SVG, by the file's suffix."""

import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mtl_jax.run.metrics import read_jsonl, whole_file
from mtl_jax.types import Array, Episode, Learner, PyTree

FORMATS = ("png", "svg")
# Okabe and Ito's, which the colour-blind tell apart; a second round of them has other lines and marks as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
LINES, MARKS = ("-", "--", "-.", ":"), "osD^vP*"
INSIDE = 2  # entries of a legend that may lie over the axes

File = str | PathLike[str]


def learning_curve(folders: Sequence[File], path: File) -> None:
    """Draw training and validation accuracy (or mean squared error) of one or more runs over their meta-steps.

    Args:
        folders: runs; a folder of several seeds' runs (seed0, seed1, ...) is one curve, their mean, in a band from the
            least to the greatest of them.
        path: the picture to write.

    Raises:
        ValueError: a folder holds no metrics.jsonl with at least one row; or no such format.
    """
    groups = {Path(folder): _rows_of(Path(folder)) for folder in folders}
    figure, axes = figure_of(7, 4)
    metrics, notes = set(), []
    for i, (folder, runs) in enumerate(groups.items()):
        metric = "accuracy" if "accuracy" in runs[0][0] else "mse"
        metrics.add({"mse": "mean squared error"}.get(metric, metric))
        label = f"{folder.name}, " if len(groups) > 1 else ""
        label += f"{len(runs)} seeds, " if len(runs) > 1 else ""
        colour, line, mark = style(i)
        steps, values = _shared(runs, metric)
        axes.plot(steps, values.mean(0), line, color=colour, label=f"{label}training", alpha=0.5, linewidth=1)
        steps, values = _shared(runs, f"val_{metric}")
        if not len(steps):
            continue
        half = None
        if len(runs) > 1:
            notes.append("seeds: their mean, in a band from the least to the greatest")
            axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
        else:
            half = np.array([row["val_ci95"] for row in runs[0] if f"val_{metric}" in row], float)
            notes.append("bars: 95 % interval over validation tasks")
        axes.errorbar(
            steps,
            values.mean(0),
            half,
            fmt=mark + line,
            color=colour,
            markersize=5,
            capsize=2,
            label=f"{label}validation",
        )  # a mark at each, since a single point is no line
    axes.set_xlabel("meta-steps")
    axes.set_ylabel(" or ".join(sorted(metrics)))
    axes.set_title("; ".join(dict.fromkeys(notes)), fontsize=8)
    axes.grid(alpha=0.3)
    legend(figure, axes)
    write(figure, path)


def setting_curve(name: str, curves: Mapping[str, Sequence[tuple[int, float, float]]], title: str, path: File) -> None:
    """Draw test accuracy over a setting.

    Args:
        name: what grows: "shots", "inner_steps" or "ways".
        curves: (value, accuracy, half its 95 % interval) in growing order, by the name of the run.
        title: what all have in common.
        path: the picture to write.
    """
    figure, axes = figure_of(6.5, 4)
    for i, (label, points) in enumerate(curves.items()):
        colour, line, mark = style(i)
        x, y, half = (np.array(column, float) for column in zip(*points, strict=True))
        axes.errorbar(x, 100 * y, 100 * half, fmt=mark + line, color=colour, capsize=3, label=label)
    values = sorted({point[0] for points in curves.values() for point in points})
    if min(values) > 0 and max(values) >= 8 * min(values):
        axes.set_xscale("log")
    axes.set_xticks(values, [str(v) for v in values])
    axes.minorticks_off()
    axes.set_xlabel({"shots": "shots (support examples per class)"}.get(name, name.replace("_", " ")))
    axes.set_ylabel("accuracy, % (95 % interval)")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    legend(figure, axes)
    write(figure, path)


def cost_curve(name: str, rows: Sequence[Mapping[str, Any]], path: File) -> None:
    """Draw the time and, below it, the temporary memory of a step over one setting, all axes from zero."""
    panels = [("step_ms", "ms per step")]
    if all(row["temp_mib"] for row in rows):
        panels.append(("temp_mib", "temporary memory, MiB"))
    figure, _ = figure_of(6.5, 1 + 2.4 * len(panels))
    figure.clear()
    x = [row[name] for row in rows]
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    for i, (axes, (key, label)) in enumerate(zip(grid, panels, strict=True)):
        colour, line, mark = style(i)
        axes.plot(x, [row[key] for row in rows], mark + line, color=colour)
        axes.set_ylabel(label)
        axes.set_ylim(0, 1.08 * max(row[key] for row in rows))
        axes.grid(alpha=0.3)
    apart = [v for i, v in enumerate(x) if not i or v - x[i - 1] > max(x) / 25]  # numbers that do not overlap
    grid[-1].set_xlim(left=0)
    grid[-1].set_xticks(apart, [str(v) for v in apart])
    grid[-1].set_xlabel(name.replace("_", " "))
    write(figure, path)


def regression(
    learner: Learner,
    thetas: Mapping[str, PyTree],
    tasks: Episode,
    path: File,
    truth: Callable[[Array], Array] | None = None,
) -> None:
    """Draw one-dimensional tasks: a row per theta, a column per task, with the curve before and after adapting.

    Args:
        learner: a method for regression, x [n, 1] and y [n, 1].
        thetas: parameters by the name to print beside them.
        tasks: episodes, [tasks, ...].
        path: the picture to write.
        truth: x [n, 1] -> y [tasks, n, 1], the curves that the tasks are points of; the query points stand for them
            unless given.
    """
    figure, _ = figure_of(12, 3.2 * len(thetas))
    figure.clear()
    count = tasks.support_x.shape[0]
    grid = figure.subplots(len(thetas), count, squeeze=False, sharex=True, sharey="col")
    x = jnp.linspace(tasks.query_x.min(), tasks.query_x.max(), 200)[:, None]
    curves = None if truth is None else truth(x)
    for j in range(count):
        shots = np.asarray(tasks.support_x[j]), np.asarray(tasks.support_y[j])
        for i, (name, theta) in enumerate(thetas.items()):
            axes, phi = grid[i, j], learner.adapt(theta, tasks.support_x[j], tasks.support_y[j])
            before = phi._replace(params=theta)
            if curves is None:
                axes.plot(tasks.query_x[j, :, 0], tasks.query_y[j, :, 0], "o", color="0.75", label="query points")
            else:
                axes.plot(x, curves[j], color="0.75", linewidth=4, label="truth")
            axes.plot(x, learner.predict(theta, before, x), "--", color=COLOURS[0], label="before")
            axes.plot(x, learner.predict(theta, phi, x), color=COLOURS[3], label="after")
            axes.plot(*shots, "k.", label="support")
            axes.set_title(f"{name}, task {j + 1}", fontsize=9)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    write(figure, path)


def style(i: int) -> tuple[str, str, str]:
    """(Colour, line, mark) of the i-th curve: no two of the first 28 have both colour and line in common."""
    return COLOURS[i % len(COLOURS)], LINES[(i // len(COLOURS)) % len(LINES)], MARKS[i % len(MARKS)]


def legend(figure: Any, axes: Any) -> None:
    """A legend in the axes if it is short, else to the right of them, where it covers no curve."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > INSIDE or max(map(len, labels)) > 40:
        widest = max(map(len, labels))
        figure.set_size_inches(figure.get_figwidth() + 0.6 + 0.075 * widest, figure.get_figheight())
        figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    else:
        axes.legend(fontsize=8)


def figure_of(width: float, height: float) -> tuple[Any, Any]:
    """A figure of so many inches, and its axes: no window, and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def format_of(path: File) -> str:
    """ "png" or "svg", by a file's suffix; ValueError for another one."""
    suffix = Path(path).suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise ValueError(f"cannot draw {Path(path).name}: the name must end in .png or .svg")
    return suffix


def write(figure: Any, path: File) -> None:
    """Save whole or not at all."""
    kind = format_of(path)
    with whole_file(Path(path)) as temporary:
        figure.savefig(temporary, format=kind)


def _rows_of(folder: Path) -> list[list[dict[str, Any]]]:
    """The rows of metrics.jsonl of a run, or of each seed's run below the folder."""
    found = sorted((path for path in folder.glob("seed*") if path.is_dir()), key=lambda path: (len(path.name), path))
    here = folder / "metrics.jsonl"
    runs = [read_jsonl(here)] if here.exists() or not found else [read_jsonl(seed / here.name) for seed in found]
    runs = [rows for rows in runs if rows]
    if not runs:
        raise ValueError(f"no metrics in {folder}: give the folder of a run that mtl-jax train wrote")
    return runs


def _shared(runs: Sequence[Sequence[Mapping[str, Any]]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """(The steps [n] at which every run has a figure, the figures [runs, n]); what is not finite is NaN."""
    seen = [{row["step"]: row[key] for row in rows if key in row} for rows in runs]
    steps = sorted(set.intersection(*(set(each) for each in seen)))
    values = [[math.nan if each[step] is None else each[step] for step in steps] for each in seen]
    return np.array(steps), np.array(values, float)
