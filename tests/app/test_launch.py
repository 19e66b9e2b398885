"""Runs from their settings alone: pre-training, another run's network, hard tasks, resumed, many seeds."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from mtl_jax import evaluate
from mtl_jax.app.build import build_learner
from mtl_jax.app.launch import launch, launch_seeds, train_or_resume
from mtl_jax.app.methods import change, resolve_settings
from mtl_jax.app.runs import load_pool, load_run, read_settings

SMALL = {
    "ways": 3, "queries": 2, "tasks": 2, "width": 4, "image_size": 16, "val_every": 2, "val_episodes": 4, "steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for k in range(4):
            (root / split / f"class{k}").mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(0, 256, (16, 16), np.uint8)
                Image.fromarray(pixels).save(root / split / f"class{k}" / f"{i}.png")
    return f"folder:{root}"


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def small(data, learner, **given):
    return resolve_settings({"learner": learner, "dataset": data, **SMALL, **given})


def test_mtl_pre_trains_by_itself_keeps_that_network_and_resumes_with_its_hard_tasks(data, tmp_path):
    few = {"pretrain_steps": 2, "inner_steps": 2, "test_steps": 2}
    settings = small(data, "mtl", **few, hard_tasks=True, schedule="constant")
    run, result = launch(settings, tmp_path / "run", quiet=True)
    assert result["steps"] == 2
    before = load_run(tmp_path / "run" / "pretrain").theta
    same(run.theta["frozen"], before["net"])
    whole, _ = launch(
        change(settings, steps=4, init=str(tmp_path / "run" / "pretrain")), tmp_path / "whole", quiet=True
    )
    rest, _ = launch(change(read_settings(tmp_path / "run"), steps=4), tmp_path / "run", resume=True, quiet=True)
    assert rest.state.tasks.classes.shape == (4,)  # two steps of two tasks are enough for three ways
    assert int(rest.state.tasks.steps) == 1  # two random steps, a hard one, a random one
    same(rest.state.tasks, whole.state.tasks)
    same(rest.state.theta, whole.state.theta)
    same(load_run(tmp_path / "run").theta["frozen"], before["net"])


def test_a_finished_run_is_left_alone_and_an_unfinished_one_goes_on(data, tmp_path):
    settings = small(data, "protonet")
    train_or_resume(settings, tmp_path / "run", quiet=True)
    before = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns
    train_or_resume(settings, tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns == before
    train_or_resume(change(settings, steps=3), tmp_path / "run", quiet=True)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 3


def test_many_seeds_leave_a_run_each(data, tmp_path):
    settings = small(data, "finetune", seed=3)
    runs, result = launch_seeds(settings, tmp_path / "many", 2, quiet=True)
    alone, _ = launch(change(settings, seed=4), tmp_path / "alone", quiet=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), runs[1].theta, alone.theta)
    assert json.loads((tmp_path / "many" / "result.json").read_text()) == result
    assert [run["seed"] for run in result["runs"]] == [3, 4]
    scores = [run["val_accuracy"] for run in result["runs"]]
    assert (result["val_accuracy"], result["seeds"]) == (pytest.approx(np.mean(scores)), 2)
    # Student's t of one degree of freedom, 12.706, and not 1.96
    assert result["seeds_ci95"] == pytest.approx(12.7062 * np.std(scores, ddof=1) / 2**0.5, rel=1e-4)
    same(load_run(tmp_path / "many" / "seed4").theta, runs[1].theta)


@pytest.mark.parametrize("given", [{"learner": "mtl"}, {"patience": 3}, {"hard_tasks": True}, {"init": "x"}])
def test_what_seeds_at_once_cannot_have_is_refused(data, tmp_path, given):
    settings = small(data, **{"learner": "protonet", **given})
    with pytest.raises(ValueError, match="leave --seeds out"):
        launch_seeds(settings, tmp_path / "mtl", 2)


def test_any_learner_starts_from_another_runs_network(data, tmp_path):
    source, _ = launch(small(data, "protonet"), tmp_path / "source", quiet=True)
    settings = small(data, "anil", steps=1, meta_lr=1e-50, inner_steps=1, init=str(tmp_path / "source"))  # 0 in float32
    run, _ = launch(settings, tmp_path / "run", quiet=True)
    same({k: v for k, v in run.theta.items() if k != "head"}, source.theta)
    given = {"init": str(tmp_path / "run"), "seed": 1, "inner_steps": 1, "steps": 1, "meta_lr": 1e-50}
    other, _ = launch(small(data, "fomaml", **given, init_head=True), tmp_path / "other", quiet=True)
    same(other.theta, run.theta)


def test_of_equal_validations_the_first_is_the_best_in_memory_and_on_disk(data, tmp_path):
    settings = small(data, "protonet", steps=6, meta_lr=1e-30)  # nothing moves: every validation is the same
    run, result = launch(settings, tmp_path / "run", quiet=True)
    scores = [row["val_accuracy"] for row in run.history if "val_accuracy" in row]
    assert len(scores) == 3
    assert len(set(scores)) == 1
    assert result["best_step"] == 2
    assert (tmp_path / "run" / "checkpoints" / "2").is_dir()  # kept for being the best
    same(load_run(tmp_path / "run").theta, run.theta)


def test_patience_ends_a_run_early_with_everything_saved(data, tmp_path):
    settings = small(data, "protonet", steps=50, meta_lr=1e-30, patience=2)
    run, result = launch(settings, tmp_path / "run", quiet=True)
    assert run.stopped
    assert not run.interrupted
    assert result["steps"] == 6  # the first is the best, two more are not better
    assert (tmp_path / "run" / "checkpoints" / "6").is_dir()


def test_a_runs_file_of_settings_is_flat_and_holds_what_its_learner_has(data, tmp_path):
    launch(small(data, "protonet", steps=1), tmp_path / "run", quiet=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["learner"] == "protonet"
    assert config["distance"] == "euclidean"
    assert not {"inner_steps", "inner_lr", "order", "transfer", "batch", "classes"} & set(config)
    assert read_settings(tmp_path / "run") == read_settings(shutil.copytree(tmp_path / "run", tmp_path / "copy"))


def test_validation_on_fewer_classes_than_a_task_has_is_scored_as_eval_scores_it(data, tmp_path):
    fewer = tmp_path / "data"
    shutil.copytree(data.removeprefix("folder:"), fewer)
    for k in (2, 3):
        shutil.rmtree(fewer / "val" / f"class{k}")
    _, counted = launch(
        small(f"folder:{fewer}", "protonet", ways=4, sizes=[[4, 1, 2], [3, 1, 2]]), tmp_path / "b", True
    )
    assert 0 <= counted["val_accuracy"] <= 1
    settings = small(f"folder:{fewer}", "protonet", ways=4)
    run, result = launch(settings, tmp_path / "run", quiet=True)
    size = {"ways": 2, "shots": 1, "queries": 2, "episodes": 4}
    val_key = jax.random.split(jax.random.key(settings.run.seed), 3)[2]
    again = evaluate(build_learner(settings, 2), run.theta, load_pool(settings, "val"), val_key, **size)
    assert result["val_accuracy"] == again.accuracy
    runs, _ = launch_seeds(settings, tmp_path / "seeds", 2, quiet=True)
    np.testing.assert_allclose(runs[0].score, again.accuracy)
    with pytest.raises(ValueError, match="2 classes, and maml has a head of 4 ways: train with --ways 2"):
        launch(small(f"folder:{fewer}", "maml", ways=4), tmp_path / "maml", quiet=True)


OTHERS = {"other_width": {"width": 6}, "strides": {"downsample": "stride"}}  # strides: of the same shapes


@pytest.mark.parametrize("start", ["nowhere", "no_run", *OTHERS])
def test_a_network_that_cannot_be_started_from_leaves_nothing_behind(data, tmp_path, start):
    (tmp_path / "no_run").mkdir()
    (tmp_path / "no_run" / "config.json").write_text("{}")
    if start in OTHERS:
        launch(small(data, "protonet", **OTHERS[start]), tmp_path / start, quiet=True)
    with pytest.raises((FileNotFoundError, ValueError), match=r"no config\.json|lacks learner|another network"):
        launch(small(data, "maml", init=str(tmp_path / start)), tmp_path / "run", quiet=True)
    assert not list(tmp_path.glob("run/**/*"))


def test_tasks_that_the_data_cannot_give_leave_nothing_behind(data, tmp_path):
    with pytest.raises(ValueError, match="5 ways from a pool of 4 classes"):
        launch(small(data, "protonet", ways=5), tmp_path / "run", quiet=True)
    assert not list(tmp_path.glob("run/**/*"))
