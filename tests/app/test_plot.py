"""Pictures: what is drawn is what the files say, and it can be read."""

import json
import math
from itertools import pairwise
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
from PIL import Image

from mtl_jax import Episode, learners, models
from mtl_jax.app import draw, grids, plot


class Seen:
    """The figure that a drawing function was about to write."""

    def __init__(self, monkeypatch, *modules):
        for module in modules:
            monkeypatch.setattr(module, "write", self.keep)

    def keep(self, figure, path):
        self.figure, self.path = figure, path
        figure.canvas.draw()


@pytest.fixture
def seen(monkeypatch):
    return Seen(monkeypatch, plot, grids)


def run(folder, values):
    folder.mkdir(parents=True)
    rows = [{"step": 10 * (i + 1), "loss": 1.0, "accuracy": v} for i, v in enumerate(values)]
    rows[-1] |= {"val_accuracy": values[-1] - 0.1, "val_ci95": 0.02}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def texts(figure):
    axes = figure.axes
    found = [t.get_text() for a in axes for t in (*a.texts, a.title, a.xaxis.label, a.yaxis.label)]
    found += [t.get_text() for a in axes for t in (*a.get_xticklabels(), *a.get_yticklabels())]
    return found


def test_one_validation_has_a_mark(tmp_path, seen):
    plot.learning_curve([run(tmp_path / "a", [0.3, 0.5])], "a.png")
    training, point, *_ = seen.figure.axes[0].lines  # then the ends of its interval
    assert len(training.get_xdata()) == 2
    assert point.get_marker() not in ("", "None", None)
    assert point.get_ydata()[0] == pytest.approx(0.4)


def test_seeds_are_a_mean_in_a_band_from_the_least_to_the_greatest(tmp_path, seen):
    for seed, values in enumerate(([0.3, 0.5], [0.4, 0.7], [0.2, 0.6, 0.9])):
        run(tmp_path / "many" / f"seed{seed}", values)
    for seed in range(3):  # validation at a step that all have
        with (tmp_path / "many" / f"seed{seed}" / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": 40, "accuracy": 0.5, "val_accuracy": 0.1 * (seed + 1), "val_ci95": 0.1}))
    plot.learning_curve([tmp_path / "many"], "a.png")
    axes = seen.figure.axes[0]
    mean = next(line for line in axes.lines if "training" in str(line.get_label()))
    assert mean.get_xdata().tolist() == [10, 20, 40]
    np.testing.assert_allclose(mean.get_ydata(), [0.3, 0.6, 0.5])
    (band,) = (c for c in axes.collections if c.get_facecolor()[0, 3] == pytest.approx(0.2))
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.1, 0.3))


@pytest.mark.parametrize("count", [1, 2, 8])
def test_a_legend_covers_no_curve_where_it_is_long(tmp_path, seen, count):
    plot.learning_curve([run(tmp_path / f"run{i}", [0.1 * i, 0.5, 0.9]) for i in range(count)], "a.png")
    axes = seen.figure.axes[0]
    legend = axes.get_legend() or seen.figure.legends[0]
    assert len(legend.get_texts()) == 2 * count
    if count == 8:
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines if len(line.get_xdata()) == 3}
    assert len(looks) == count


def test_a_loss_that_was_not_finite_leaves_a_gap(tmp_path, seen):
    folder = run(tmp_path / "a", [0.3, 0.5, 0.6])
    text = (folder / "metrics.jsonl").read_text().replace("0.5}", "null}")
    (folder / "metrics.jsonl").write_text(text)
    plot.learning_curve([folder], "a.png")
    assert math.isnan(seen.figure.axes[0].lines[0].get_ydata()[1])


def test_a_sweep_has_axes_that_can_be_read(seen):
    rows = [{"tasks": n, "step_ms": 100.0 + n, "temp_mib": 20.0} for n in (1, 2, 4, 8, 64)]
    plot.cost_curve("tasks", rows, "sweep.png")
    for axes in seen.figure.axes:
        shown = [t for t in axes.get_yticklabels() if t.get_text()]
        assert len(shown) >= 3
        assert axes.get_ylim()[0] == 0
    labels = [t for t in seen.figure.axes[-1].get_xticklabels() if t.get_text()]
    boxes = [t.get_window_extent() for t in labels]
    assert labels[-1].get_text() == "64"
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_a_curve_over_shots_is_in_percent_with_its_task(seen):
    curves = {"a": [(1, 0.5, 0.01), (5, 0.7, 0.02)], "b": [(1, 0.4, 0.01), (5, 0.9, 0.02)]}
    plot.setting_curve("shots", curves, "5 ways", "a.png")
    axes = seen.figure.axes[0]
    assert axes.lines[0].get_ydata().tolist() == [50.0, 70.0]
    assert axes.get_title() == "5 ways"
    assert "shots" in axes.get_xlabel()


def test_truth_is_drawn_between_the_points(seen, key):
    net = models.mlp(1, (4,))
    maml = learners.maml(net, 0.01, 1)
    x = jax.numpy.linspace(-1.0, 1.0, 3)[None, :, None]
    tasks = Episode(x, x**2, x, x**2)
    plot.regression(maml, {"maml": net.init(key, x[0])}, tasks, "a.png", truth=lambda x: (x**2)[None])
    (truth,) = (line for line in seen.figure.axes[0].lines if line.get_label() == "truth")
    assert len(truth.get_xdata()) > 100
    np.testing.assert_allclose(np.ravel(truth.get_ydata()), np.ravel(truth.get_xdata()) ** 2, atol=1e-6)


def test_an_episode_marks_what_is_wrong(seen):
    x = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype(np.float32)
    y = np.array([0, 0, 1, 1], np.int32)
    grids.episode_grid(Episode(x[:2], y[[0, 2]], x, y), "a.png", predicted=[0, 1, 1, 1])
    axes = seen.figure.axes[0]
    assert [t.get_text() for t in axes.texts] == ["1"]
    assert len({str(p.get_linestyle()) for p in axes.patches}) == 2  # told apart without colours too
    assert "75 % of 4 right" in axes.get_title()


def test_a_transfer_matrix_has_a_panel_per_shots_and_named_axes(seen):
    cells = [
        {"source": s, "method": "protonet", "target": t, "shots": k, "accuracy": 0.5 + k / 20, "ci95": 0.01, "ways": 5}
        for s in ("glyphs", "omniglot") for t in ("digits", "cifar_fs") for k in (5, 1)
        if (s, t, k) != ("glyphs", "digits", 1)
    ]  # fmt: skip
    grids.transfer_matrix(cells, "a.png")
    panels = [axes for axes in seen.figure.axes if axes.images and axes.get_xlabel()]
    assert [axes.get_title() for axes in panels] == ["1 shot", "5 shots"]
    assert [len(axes.texts) for axes in panels] == [3, 4]
    assert np.isnan(panels[0].images[0].get_array().filled(np.nan)).sum() == 1
    found = texts(seen.figure)
    assert "target (tested on)" in found
    assert "source (trained on), method" in found
    assert "75.0 ± 1.0" in found
    with pytest.raises(ValueError, match="cells"):
        grids.transfer_matrix([], "a.png")


def test_a_file_is_a_picture_of_its_suffix_and_whole(tmp_path):
    folder = run(tmp_path / "a", [0.3, 0.5])
    plot.learning_curve([folder], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
    plot.learning_curve([folder], tmp_path / "a.svg")
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    with pytest.raises(ValueError, match="must end in"):
        plot.learning_curve([folder], tmp_path / "a.jpg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.png", "a.svg"]


def test_colours_differ_in_lightness_too():
    def lightness(colour):
        return float(np.dot([int(colour[i : i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114]))

    first = [lightness(colour) for colour in plot.COLOURS[:2]]
    assert abs(first[0] - first[1]) > 60
    assert len({plot.style(i)[:2] for i in range(28)}) == 28


@pytest.mark.parametrize("text", ["shots", "shots=", "shots=0", "width=1", "shots=1;2", "shots=1,,2"])
def test_what_is_no_setting_is_refused(text):
    with pytest.raises(ValueError, match="NAME=V1,V2"):
        draw.parse_against(text)


def test_values_are_in_order_and_once():
    assert draw.parse_against("inner-steps=5,1,5") == ("inner_steps", [1, 5])
