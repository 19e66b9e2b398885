"""Runs from their settings alone: pre-training, another run's network, hard tasks, resumed, or within a time."""

import json
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from mtl_jax.run.budget import launch_for
from mtl_jax.run.launch import finish, launch, launch_seeds
from mtl_jax.run.methods import complete
from mtl_jax.run.metrics import fill_methods
from mtl_jax.run.plot import heat_map
from mtl_jax.run.publish import publish
from mtl_jax.run.setup import load_theta, read_config

SMALL = {
    "ways": 3, "queries": 2, "tasks": 2, "width": 4, "image_size": 16, "val_every": 2, "val_episodes": 4, "steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for k in range(4):
        (root / f"class{k}").mkdir()
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(root / f"class{k}" / f"{i}.png")
    return f"folder:{root}"


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_mtl_pre_trains_by_itself_keeps_that_network_and_resumes_with_its_hard_tasks(data, tmp_path):
    settings = {"learner": "mtl", "dataset": data, "pretrain_steps": 2, "inner_steps": 2, "test_steps": 2, **SMALL}
    config = complete({**settings, "hard_tasks": True, "schedule": "constant"})
    run, result = launch(config, tmp_path / "run", quiet=True)
    assert result["steps"] == 2
    before = load_theta(tmp_path / "run" / "pretrain", read_config(tmp_path / "run" / "pretrain"))
    same(run.theta["frozen"], before["net"])
    whole, _ = launch(
        {**config, "steps": 4, "init": str(tmp_path / "run" / "pretrain")}, tmp_path / "whole", quiet=True
    )
    rest, _ = launch({**read_config(tmp_path / "run"), "steps": 4}, tmp_path / "run", resume=True, quiet=True)
    assert int(rest.state.failed.recorded) == 4 * 2
    same(rest.state.failed, whole.state.failed)
    same(rest.state.theta, whole.state.theta)
    same(load_theta(tmp_path / "run", read_config(tmp_path / "run"))["frozen"], before["net"])


def test_a_finished_run_is_left_alone_and_an_unfinished_one_goes_on(data, tmp_path):
    config = complete({"learner": "protonet", "dataset": data, **SMALL})
    finish(config, tmp_path / "run", quiet=True)
    before = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns
    finish(config, tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns == before
    finish(config | {"steps": 3}, tmp_path / "run", quiet=True)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 3


def test_many_seeds_leave_a_run_each(data, tmp_path):
    config = complete({"learner": "finetune", "dataset": data, **SMALL, "seed": 3})
    runs, result = launch_seeds(config, tmp_path / "many", 2, quiet=True)
    alone, _ = launch(config | {"seed": 4}, tmp_path / "alone", quiet=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), runs[1].theta, alone.theta)
    assert json.loads((tmp_path / "many" / "result.json").read_text()) == result
    assert [run["seed"] for run in result["runs"]] == [3, 4]
    scores = [run["val_accuracy"] for run in result["runs"]]
    assert (result["val_accuracy"], result["seeds"]) == (pytest.approx(np.mean(scores)), 2)
    same(load_theta(tmp_path / "many" / "seed4", read_config(tmp_path / "many" / "seed4")), runs[1].theta)
    with pytest.raises(ValueError, match="leave --seeds out"):
        launch_seeds(complete({"learner": "mtl", "dataset": data, **SMALL}), tmp_path / "mtl", 2)


def test_any_learner_starts_from_another_runs_network(data, tmp_path):
    source, _ = launch(complete({"learner": "protonet", "dataset": data, **SMALL}), tmp_path / "source", quiet=True)
    config = complete({"learner": "anil", "dataset": data, **SMALL, "steps": 1, "meta_lr": 1e-30, "inner_steps": 1})
    run, _ = launch({**config, "init": str(tmp_path / "source")}, tmp_path / "run", quiet=True)
    same({k: v for k, v in run.theta.items() if k != "head"}, source.theta)


def test_a_time_is_kept(data, tmp_path):
    config = complete({"learner": "protonet", "dataset": data, **SMALL})
    run, result = launch_for(config, 0.02, tmp_path / "run")
    assert result["steps"] == int(run.state.step) >= 1
    assert result["steps"] == pytest.approx(1200 / result["ms_a_step"], abs=1)


def test_an_experiment_trains_tests_under_both_norms_and_goes_on(data, tmp_path, monkeypatch):
    settings = {"small": {"learner": "protonet", "dataset": data, **SMALL}, "large": {"learner": "maml"}}
    for steps in (["--steps", "2"], ["--steps", "3", "--resume"]):
        monkeypatch.setattr(sys, "argv", ["experiment", "--out", str(tmp_path / "run"), *steps])
        publish("tiny", "about", settings, shots=(1,), episodes=6, ways=3, queries=2)
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (record["experiment"], record["setting"], record["steps"]) == ("tiny", "small", 3)
    assert [(row["norm"], row["ways"], row["episodes"]) for row in record["test"]] == [
        ("transductive", 3, 6), ("support", 3, 6),
    ]  # fmt: skip
    assert all(0 <= row["accuracy"] <= 1 for row in record["test"])


def test_a_record_is_filled_with_the_methods_it_lacks(tmp_path):
    asked = []

    def measure(name):
        asked.append(name)
        return {"method": name, "score": len(name)}

    file = tmp_path / "new" / "result.json"
    fill_methods(file, {"experiment": "tiny"}, ["maml"], measure)
    rows = fill_methods(file, {"experiment": "tiny"}, ["maml", "anil"], measure)
    assert asked == ["maml", "anil"]
    assert rows == [{"method": "maml", "score": 4}, {"method": "anil", "score": 4}]
    assert json.loads(file.read_text()) == {"experiment": "tiny", "methods": rows}


def test_a_heat_map_is_drawn_with_the_cells_there_are(tmp_path):
    heat_map({("glyphs", "digits"): (66.0, 0.7), ("omniglot", "glyphs"): (91.0, 0.5)}, "title", tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.size[0] > 300
