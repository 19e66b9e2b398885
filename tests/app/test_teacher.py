"""A pre-training that learns from another run's outputs: what it is taught, resumed, tested alone, and refused."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import mtl_jax

from mtl_jax import Episode
from mtl_jax.app.launch import launch, launch_seeds
from mtl_jax.app.methods import change, resolve_settings
from mtl_jax.app.runs import load_run, read_settings
from mtl_jax.app.teacher import teacher_of

SMALL = {
    "learner": "finetune", "dataset": "glyphs", "image_size": 16, "ways": 3, "queries": 2, "width": 4, "batch": 8,
    "val_every": 2, "val_episodes": 4, "steps": 2, "schedule": "constant",
}  # fmt: skip


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "first"
    launch(resolve_settings(SMALL), folder, quiet=True)
    return folder


def taught(first, **given):
    return resolve_settings({**SMALL, "seed": 1, "teacher": str(first), **given})


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_teacher_is_the_network_and_the_head_of_that_run(first):
    run = load_run(first)
    settings = change(read_settings(first), teacher=str(first))
    x = jax.random.uniform(jax.random.key(0), (5, *settings.task.image_shape))
    logs = jax.nn.log_softmax(teacher_of(settings).logits(x))
    assert logs.shape == (5, settings.task.classes)
    for k in (0, 1, settings.task.classes - 1):
        y = jnp.full(5, k, jnp.int32)
        np.testing.assert_allclose(run.learner.loss(run.theta, Episode(x, y, x, y, None))[0], -logs[:, k].mean(), 1e-5)
    assert teacher_of(read_settings(first)) is None


def test_it_changes_what_a_run_learns_which_goes_on_as_if_whole_and_is_tested_without_it(first, tmp_path):
    shutil.copytree(first, tmp_path / "teacher")
    settings = taught(tmp_path / "teacher", steps=4)
    whole, _ = launch(settings, tmp_path / "whole", quiet=True)
    alone, _ = launch(change(settings, teacher=None), tmp_path / "alone", quiet=True)
    assert whole.history[0]["loss"] != alone.history[0]["loss"]
    half, _ = launch(change(settings, steps=2), tmp_path / "halved", quiet=True)
    runs, _ = launch_seeds(change(settings, steps=2), tmp_path / "seeds", 2, quiet=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), runs[0].state.theta, half.state.theta)
    halved, _ = launch(settings, tmp_path / "halved", resume=True, quiet=True)
    same(halved.state.theta, whole.state.theta)
    assert set(whole.state.theta) == {"net", "classes"}  # no weights of the teacher's
    shutil.rmtree(tmp_path / "teacher")
    assert mtl_jax("eval", tmp_path / "whole", "--episodes", 4, "--shots", 1) == 0
    start = ("--dataset", "glyphs", "--image-size", 16, "--width", 4, "--ways", 3, "--steps", 1, "--val-episodes", 4)
    assert mtl_jax("train", "protonet", *start, "--init", tmp_path / "whole", "--out", tmp_path / "next") == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": 20}, "the teacher {} has image-shape (16, 16, 1), and this run (20, 20, 1)"),
        ({"augment": "none"}, "of the same source classes and inputs"),
        ({"teacher": "protonet-omniglot"}, "is a run of protonet, whose outputs are not of source classes"),
        ({"teacher": "nowhere"}, "no config.json in nowhere"),
        ({"learner": "maml"}, "train maml has no option --teacher"),
    ],
)
def test_another_kind_of_teacher_is_refused_in_one_line(first, tmp_path, capsys, changes, said):
    given = {"teacher": first, **SMALL, **changes}
    learner = given.pop("learner")
    command = [word for k, v in given.items() for word in (f"--{k.replace('_', '-')}", v)]
    drop = {"--batch", "--image-size"} if learner == "maml" else set()
    command = [w for i, w in enumerate(command) if w not in drop and (i == 0 or command[i - 1] not in drop)]
    assert mtl_jax("train", learner, *command, "--out", tmp_path / "out") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said.format(first) in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_teacher_of_other_data_or_with_a_head_of_cosines_is_refused(first, tmp_path):
    with pytest.raises(ValueError, match="first has dataset glyphs, and this run fc100: it must be of the same"):
        teacher_of(change(read_settings(first), teacher=str(first), dataset="fc100"))
    over = {"model": "linear", "norm": "frozen", "backbone": "lite0", "augment": "none"}
    here = change(read_settings(first), teacher=str(first), **over, width=None, downsample=None)
    with pytest.raises(ValueError, match="first has backbone None, and this run lite0"):
        teacher_of(here)
    cosines = {**SMALL, "learner": "baseline-pp"}
    launch(resolve_settings(cosines), tmp_path / "cosines", quiet=True)
    with pytest.raises(ValueError, match="is a run of baseline-pp, whose outputs are cosines"):
        teacher_of(change(read_settings(first), teacher=str(tmp_path / "cosines")))


OWN = """
from mtl_jax import Learner, learners


def mine(net, classes, ways=None):
    of = learners.finetune(net, classes, ways=ways)
    return Learner(
        lambda key, x: {"all": of.init(key, x)},
        lambda theta, x, y: of.adapt(theta["all"], x, y),
        lambda theta, phi, x: of.predict(theta["all"], phi, x),
        lambda theta, episode: of.loss(theta["all"], episode),
    )
"""


def test_a_method_of_ones_own_that_keeps_its_head_elsewhere_cannot_teach(first, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    launch(resolve_settings({**SMALL, "learner": f"{tmp_path / 'own.py'}:mine"}), tmp_path / "mine", quiet=True)
    with pytest.raises(ValueError, match="not of a network and a head that are known: give one of mtl-jax pretrain"):
        teacher_of(change(read_settings(first), teacher=str(tmp_path / "mine")))
