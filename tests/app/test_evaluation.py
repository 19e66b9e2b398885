"""The command eval, of several checkpoints together."""

import json

import jax
import numpy as np
import pytest
from command_line import mtl_jax

from mtl_jax import datasets, evaluate
from mtl_jax.app import load_run, methods
from mtl_jax.app.methods import note_on_shots, resolve_settings

pytestmark = pytest.mark.filterwarnings("ignore:.*no splits of its own")
SIZES = ("--ways", 3, "--queries", 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four steps that keeps its three best checkpoints."""
    folder = tmp_path_factory.mktemp("runs")
    x, y = np.random.default_rng(0).uniform(0, 1, (48, 5)).astype(np.float32), np.repeat(np.arange(6), 8)
    np.savez(folder / "data.npz", x=x, y=y)
    go = ("--tasks", 2, "--model", "linear", "--steps", 4, "--val-every", 1, "--meta-lr", 0.3, "--keep-best", 3)
    data = f"npz:{folder / 'data.npz'}"
    assert mtl_jax("train", "maml", "--dataset", data, "--out", folder / "run", *SIZES, *go) == 0
    return folder / "run"


def test_it_scores_the_ensemble_that_load_run_gives(run, capfd):
    assert mtl_jax("eval", run, "--ensemble", 2, "--episodes", 30, "--json") == 0
    seen = json.loads(capfd.readouterr().out)
    settings, learner, theta = load_run(run, ensemble=2)
    pool = datasets.load(settings.task.dataset, "test")
    expected = evaluate(learner, theta, pool, jax.random.key(0), ways=3, queries=2, episodes=30)
    assert seen["ensemble"] == 2
    assert seen["accuracy"] == pytest.approx(expected.accuracy, rel=1e-6)
    assert mtl_jax("eval", run, "--episodes", 30, "--json") == 0
    assert "ensemble" not in json.loads(capfd.readouterr().out)


@pytest.mark.parametrize(
    ("name", "several", "said"),
    [(None, 9, "not 9: ask for"), ("protonet-glyphs", 2, "one network, not an ensemble of 2"),
     (None, 0, "ensemble must be at least 1")],
)  # fmt: skip
def test_more_networks_than_there_are_are_refused_in_one_line(run, name, several, said, capfd):
    assert mtl_jax("eval", name or run, "--ensemble", several, "--episodes", 3) == 2
    err = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert len(err) == 1
    assert said in err[0]


@pytest.mark.parametrize("shots", [1, 2])
def test_it_warns_where_the_method_does_badly_at_these_shots(run, shots, monkeypatch, caplog):
    by_sums = resolve_settings({"learner": "relation", "image_shape": (16, 16, 1)})
    monkeypatch.setattr(methods, "note_on_shots", lambda _, asked: note_on_shots(by_sums, asked))
    assert mtl_jax("eval", run, "--shots", shots, "--episodes", 2) == 0
    assert ("trained with 1 per class" in caplog.text) == (shots == 2)
