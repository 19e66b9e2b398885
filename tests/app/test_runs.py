"""Runs read back: those of this version, and those that version 0.1.0 wrote."""

import json
import zipfile
from pathlib import Path

import jax
import pytest

from mtl_jax import datasets, evaluate
from mtl_jax.app import load_run
from mtl_jax.app.build import build_learner
from mtl_jax.app.methods import given_of
from mtl_jax.app.runs import read_settings


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The folders of a protonet and an mtl with hard tasks, and what version 0.1.0's own `eval` printed of each."""
    folder = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(Path(__file__).parent / "runs_0_1_0.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("name", ["protonet", "mtl"])
def test_a_run_of_version_0_1_0_evaluates_to_the_same_accuracy(old, name):
    then = json.loads((old / name / "eval.json").read_text())
    run = load_run(old / name)
    size = {k: then[k] for k in ("ways", "shots", "queries", "episodes")}
    pool = datasets.load(then["dataset"], then["split"], run.settings.task.image_shape[0])
    learner = build_learner(run.settings, then["ways"])
    seen = evaluate(learner, run.theta, pool, jax.random.key(then["seed"]), **size)
    # One query of forty episodes of 25 would be 1e-3: the same answers, but for a float32 mean.
    assert seen.accuracy == pytest.approx(then["accuracy"], abs=1e-6)
    assert seen.ci95 == pytest.approx(then["ci95"], abs=1e-6)


def test_what_it_wrote_beside_the_learners_own_settings_is_left_out(old):
    config = json.loads((old / "protonet" / "config.json").read_text())
    assert config["inner_steps"] == 0  # every learner's settings stood in every file
    settings = read_settings(old / "protonet")
    assert set(settings.method) == {"distance", "temperature"}
    assert read_settings(old / "mtl").outer.lr_multipliers == config_of(old / "mtl")["rates"]
    assert given_of(read_settings(old / "mtl"))["test_steps"] == 5


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learner": "nonsense"}, "unknown learner"),
        ({"ways": "five"}, "ways must be a number"),
        ({"surprise": 1}, "unknown setting 'surprise'"),
        ({"image_shape": "28x28"}, "image-shape"),
        ({"meta_lr": float("nan")}, "finite"),
        ({"lr_multipliers": [1]}, "lr-multipliers"),
    ],
)
def test_a_file_that_no_command_wrote_is_refused_in_one_line(old, tmp_path, change, said):
    (tmp_path / "config.json").write_text(json.dumps(config_of(old / "protonet") | change))
    with pytest.raises(ValueError, match=said) as caught:
        read_settings(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
