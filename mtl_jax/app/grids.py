"""Pictures in rows and columns: an episode with what was predicted, and the transfer matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_jax.app.plot import COLOURS, File, figure_of, write
from mtl_jax.types import Episode

RIGHT, WRONG = COLOURS[0], COLOURS[3]


def episode_grid(episode: Episode, path: File, predicted: Sequence[int] | None = None) -> None:
    """Draw an episode of images: a row per class, support to the left of the line, queries to the right.

    Args:
        episode: of images [n, height, width, 1 or 3] in [0, 1].
        path: the picture to write.
        predicted: a label per query: each then has a frame, and where it is wrong a dashed one and the label.
    """
    support, query = (np.asarray(x) for x in (episode.support_x, episode.query_x))
    known, asked = (np.asarray(y) for y in (episode.support_y, episode.query_y))
    labels = np.unique(known)
    shots = max(int((known == k).sum()) for k in labels)
    columns = shots + max(int((asked == k).sum()) for k in labels)
    side, channels = support.shape[1] + 4, support.shape[3]
    grid = np.full((len(labels) * side, columns * side, channels), 0.5, np.float32)
    figure, axes = figure_of(0.7 * columns + 0.8, 0.7 * len(labels) + (0.9 if predicted is None else 1.2))
    for i, k in enumerate(labels):
        queries = np.flatnonzero(asked == k)
        cells = [*enumerate(support[known == k]), *enumerate(query[queries], start=shots)]
        for j, image in cells:
            grid[i * side + 2 : (i + 1) * side - 2, j * side + 2 : (j + 1) * side - 2] = image
        if predicted is not None:
            for j, n in enumerate(queries, start=shots):
                _frame(axes, i * side, j * side, side, int(k), int(predicted[int(n)]))
    axes.imshow(grid.squeeze(-1) if channels == 1 else grid, cmap="gray", vmin=0, vmax=1)
    axes.axvline(shots * side - 0.5, color="k", linewidth=2.5)
    axes.set_yticks([(i + 0.5) * side for i in range(len(labels))], [str(k) for k in labels])
    axes.set_xticks([shots * side / 2, (shots + columns) * side / 2], ["support", "query"])
    axes.set_ylabel("label")
    if predicted is not None:
        right = float((np.asarray(predicted) == asked).mean())
        axes.set_title(
            f"{100 * right:.0f} % of {len(asked)} right\n(dashed frame: wrong, with the label it was given)", fontsize=8
        )
    write(figure, path)


def _frame(axes: Any, top: float, left: float, side: int, label: int, predicted: int) -> None:
    from matplotlib.patches import Rectangle

    right = label == predicted
    frame = Rectangle((left + 0.5, top + 0.5), side - 2, side - 2, fill=False, linewidth=1.6)
    frame.set_edgecolor(RIGHT if right else WRONG)
    frame.set_linestyle("-" if right else (0, (2, 1)))
    axes.add_patch(frame)
    if not right:
        box = {"facecolor": "w", "edgecolor": WRONG, "pad": 1.0}
        corner = left + side - 3, top + side - 3
        axes.text(*corner, str(predicted), fontsize=7, color=WRONG, ha="right", va="bottom", bbox=box)


def transfer_matrix(cells: Sequence[Mapping[str, Any]], path: File) -> None:
    """Draw every source's networks on every target: a panel per number of shots, a row per source and method.

    Args:
        cells: each with "source", "method", "target", "shots", "accuracy" and "ci95" (fractions), and, if it is the
            same for all, "ways", "norm" and "episodes"; what is missing stays white.
        path: the picture to write.

    Raises:
        ValueError: no cells, or one that lacks a field.
    """
    wanted = ("source", "method", "target", "shots", "accuracy", "ci95")
    if not cells or any(name not in cell for cell in cells for name in wanted):
        raise ValueError(f"a transfer matrix has cells, each with {', '.join(wanted)}")
    panels: dict[str, dict[tuple[str, str], tuple[float, float]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["shots"]):
        figures = panels.setdefault(f"{cell['shots']} shot{'s' * (cell['shots'] > 1)}", {})
        figures[f"{cell['source']}, {cell['method']}", cell["target"]] = 100 * cell["accuracy"], 100 * cell["ci95"]
    common = {name: {cell.get(name) for cell in cells} for name in ("ways", "norm", "episodes")}
    said = {name: values.pop() for name, values in common.items() if len(values) == 1 and None not in values}
    notes = {"ways": "{}-way", "norm": "norm {}", "episodes": "{} episodes"}
    title = ", ".join(["accuracy, %", *(notes[name].format(value) for name, value in said.items())])
    heat_map(panels, title, path, rows="source (trained on), method", columns="target (tested on)")


def heat_map(
    panels: Mapping[str, Mapping[tuple[str, str], tuple[float, float]]],
    title: str,
    path: File,
    rows: str = "",
    columns: str = "",
) -> None:
    """Draw tables of (mean, half its interval), in percent, by (row, column), side by side on one scale of colours.

    Args:
        panels: figures by the names of their row and column, which are drawn in the order they come in, by the panel's
            title; what is missing stays white.
        title: the picture's.
        path: the picture to write.
        rows, columns: what the rows and the columns are.
    """
    down = list(dict.fromkeys(row for figures in panels.values() for row, _ in figures))
    across = list(dict.fromkeys(column for figures in panels.values() for _, column in figures))
    figure, _ = figure_of(3.0 + 1.15 * len(across) * len(panels), 1.8 + 0.42 * len(down))
    figure.clear()
    means = [mean for figures in panels.values() for mean, _ in figures.values()]
    low, high = min(means), max(max(means), min(means) + 1)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (name, figures) in zip(grid, panels.items(), strict=True):
        table = np.full((len(down), len(across)), np.nan)
        for (row, column), (mean, half) in figures.items():
            i, j = down.index(row), across.index(column)
            table[i, j] = mean
            ink = "k" if mean > (low + high) / 2 else "w"
            axes.text(j, i, f"{mean:.1f} ± {half:.1f}", ha="center", va="center", color=ink, fontsize=8)
        picture = axes.imshow(table, vmin=low, vmax=high, cmap="cividis", aspect="auto")
        axes.set_xticks(range(len(across)), across, rotation=30, ha="right")
        axes.set_yticks(range(len(down)), down)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel(columns)
    grid[0].set_ylabel(rows)
    figure.colorbar(picture, ax=grid[-1], label="%")
    figure.suptitle(title, fontsize=10)
    write(figure, path)
