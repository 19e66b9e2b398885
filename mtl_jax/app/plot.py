"""Pictures of a run: learning curves and episodes, as PNG files."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mtl_jax.run.metrics import read_jsonl, whole_file
from mtl_jax.types import Episode, Learner, PyTree


def learning_curve(folders: Sequence[str | PathLike[str]], path: str | PathLike[str]) -> None:
    """Draw training and validation accuracy (or mean squared error) of one or more runs over their meta-steps.

    Raises:
        ValueError: a folder holds no metrics.jsonl with at least one row.
    """
    runs = {Path(folder): read_jsonl(Path(folder) / "metrics.jsonl") for folder in folders}
    for folder, rows in runs.items():
        if not rows:
            raise ValueError(f"no metrics in {folder}: give the folder of a run that mtl-jax train wrote")
    figure, axes = _figure(7, 4)
    for folder, rows in runs.items():
        metric = "accuracy" if "accuracy" in rows[0] else "mse"
        label = f"{folder.name} " if len(runs) > 1 else ""
        (line,) = axes.plot([r["step"] for r in rows], [r[metric] for r in rows], label=f"{label}training", alpha=0.5)
        seen = [r for r in rows if f"val_{metric}" in r]
        if seen:
            x, y, half = (np.array([r[k] for r in seen], float) for k in ("step", f"val_{metric}", "val_ci95"))
            axes.errorbar(x, y, half, label=f"{label}validation, 95 % interval", color=line.get_color(), capsize=2)
    axes.set_xlabel("meta-steps")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend()
    _write(figure, path)


def episode_grid(episode: Episode, path: str | PathLike[str]) -> None:
    """Draw an episode of images: a row per class, support to the left of the line, queries to the right."""
    support, query = (np.asarray(x) for x in (episode.support_x, episode.query_x))
    labels = np.unique(np.asarray(episode.support_y))
    rows = [
        [x[np.asarray(y) == k] for x, y in ((support, episode.support_y), (query, episode.query_y))] for k in labels
    ]
    shots = max(len(row[0]) for row in rows)
    columns = shots + max(len(row[1]) for row in rows)
    side = support.shape[1] + 2
    grid = np.full((len(rows) * side, columns * side, support.shape[3]), 0.5, np.float32)
    for i, row in enumerate(rows):
        places = [*range(len(row[0])), *range(shots, shots + len(row[1]))]
        for j, image in zip(places, np.concatenate(row), strict=True):
            grid[i * side + 1 : (i + 1) * side - 1, j * side + 1 : (j + 1) * side - 1] = image
    figure, axes = _figure(0.7 * columns + 0.6, 0.7 * len(rows) + 0.6)
    axes.imshow(grid.squeeze(-1) if grid.shape[-1] == 1 else grid, cmap="gray", vmin=0, vmax=1)
    axes.axvline(shots * side - 0.5, color="tab:orange", linewidth=2)
    axes.set_yticks([(i + 0.5) * side for i in range(len(rows))], [str(k) for k in labels])
    axes.set_xticks([shots * side / 2, (shots + columns) * side / 2], ["support", "query"])
    _write(figure, path)


def cost_curve(name: str, rows: Sequence[Mapping[str, Any]], path: str | PathLike[str]) -> None:
    """Draw the time and the temporary memory of a step over one setting, both axes by powers."""
    figure, left = _figure(7, 4)
    x = [row[name] for row in rows]
    left.loglog(x, [row["step_ms"] for row in rows], "o-", color="tab:blue")
    left.set_xlabel(name.replace("_", " "))
    left.set_ylabel("ms per step", color="tab:blue")
    left.set_xticks(x, [str(v) for v in x])
    left.minorticks_off()
    left.grid(alpha=0.3)
    if all(row["temp_mib"] for row in rows):
        right = left.twinx()
        right.loglog(x, [row["temp_mib"] for row in rows], "s--", color="tab:orange")
        right.set_ylabel("temporary memory, MiB", color="tab:orange")
        right.minorticks_off()
    _write(figure, path)


def heat_map(values: Mapping[tuple[str, str], tuple[float, float]], title: str, path: str | PathLike[str]) -> None:
    """Draw a table of (mean, half its interval), in percent, by (row, column); what is missing stays white.

    Args:
        values: figures by the names of their row and column, which are drawn in the order they come in.
        title: the picture's.
        path: the PNG.
    """
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*values, strict=True))
    grid = np.full((len(rows), len(columns)), np.nan)
    figure, axes = _figure(2.2 + 1.3 * len(columns), 1.6 + 0.5 * len(rows))
    for (row, column), (mean, half) in values.items():
        i, j = rows.index(row), columns.index(column)
        grid[i, j] = mean
        axes.text(
            j, i, f"{mean:.1f} ± {half:.1f}", ha="center", va="center", color="w" if mean < 60 else "k", fontsize=9
        )
    axes.imshow(grid, vmin=20, vmax=100, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title(title, fontsize=10)
    _write(figure, path)


def regression(learner: Learner, thetas: Mapping[str, PyTree], tasks: Episode, path: str | PathLike[str]) -> None:
    """Draw one-dimensional tasks: a row per theta, a column per task, with the curve before and after adapting.

    Args:
        learner: a method for regression, x [n, 1] and y [n, 1].
        thetas: parameters by the name to print beside them.
        tasks: episodes, [tasks, ...]; query points are drawn as the truth.
        path: the PNG.
    """
    figure, _ = _figure(12, 3.2 * len(thetas))
    figure.clear()
    count = tasks.support_x.shape[0]
    grid = figure.subplots(len(thetas), count, squeeze=False, sharex=True, sharey="col")
    x = jnp.linspace(tasks.query_x.min(), tasks.query_x.max(), 200)[:, None]
    for j in range(count):
        shots = np.asarray(tasks.support_x[j]), np.asarray(tasks.support_y[j])
        order = np.asarray(tasks.query_x[j, :, 0]).argsort()
        for i, (name, theta) in enumerate(thetas.items()):
            axes, phi = grid[i, j], learner.adapt(theta, tasks.support_x[j], tasks.support_y[j])
            before = phi._replace(params=theta)
            axes.plot(tasks.query_x[j, order, 0], tasks.query_y[j, order, 0], color="0.7", linewidth=4, label="truth")
            axes.plot(x, learner.predict(theta, before, x), "--", color="tab:blue", label="before")
            axes.plot(x, learner.predict(theta, phi, x), color="tab:red", label="after")
            axes.plot(*shots, "k.", label="support")
            axes.set_title(f"{name}, task {j + 1}", fontsize=9)
    grid[0, 0].legend(fontsize=8)
    _write(figure, path)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no window, and no global state
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _write(figure: Any, path: str | PathLike[str]) -> None:
    """Save whole or not at all."""
    with whole_file(Path(path)) as temporary:
        figure.savefig(temporary, format="png")
