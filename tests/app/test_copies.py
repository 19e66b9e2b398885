"""eval and compare with augmented copies of a task's images: the options, what they measure, and what is refused."""

import json

import jax
import numpy as np
import pytest
from command_line import mtl_jax

from mtl_jax import datasets, evaluate
from mtl_jax.app import classifier, copies
from mtl_jax.app.methods import resolve_settings
from mtl_jax.app.pictures import Support
from mtl_jax.app.runs import load_run
from mtl_jax.learners.copies import with_copies

pytestmark = pytest.mark.filterwarnings("ignore:.*no splits of its own")
GO = ("--ways", 3, "--queries", 2, "--tasks", 2, "--model", "mlp", "--width", 4, "--steps", 1, "--val-episodes", 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of eighteen classes, all noise about a level of their own."""
    file = tmp_path_factory.mktemp("data") / "data.npz"
    y = np.repeat(np.arange(18), 4)
    noise = np.random.default_rng(0).integers(0, 120, (72, 16, 16, 3))
    np.savez(file, x=(noise + 7 * y[:, None, None, None]).astype(np.uint8), y=y)
    return f"npz:{file}"


def train(data, folder, *given):
    assert mtl_jax("train", "protonet", "--dataset", data, "--out", folder, *GO, *given) == 0
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Trained with flips and crops."""
    return train(data, tmp_path_factory.mktemp("runs") / "cropped", "--augment", "flip_crop")


def test_eval_measures_by_copies_that_vary_as_in_training(run, capfd):
    size = ("--episodes", 20, "--json")
    assert mtl_jax("eval", run, "--support-copies", 3, "--query-copies", 1, *size) == 0
    seen = json.loads(capfd.readouterr().out)
    assert (seen["vary"], seen["support_copies"], seen["query_copies"]) == ("flip_crop", 3, 1)
    settings, learner, theta = load_run(run)
    pool, size = datasets.load(settings.task.dataset, "test"), {"ways": 3, "queries": 2, "episodes": 20}
    expected = evaluate(with_copies(learner, "flip_crop", 3, 1), theta, pool, jax.random.key(0), **size)
    assert seen["accuracy"] == pytest.approx(expected.accuracy, rel=1e-6)
    assert seen["ci95"] == pytest.approx(expected.ci95, rel=1e-5)
    assert mtl_jax("eval", run, "--episodes", 20, "--support-copies", 2, "--vary", "affine") == 0
    assert "; augmented copies (affine): 2 of each support image, 0 of each query" in capfd.readouterr().out
    assert mtl_jax("eval", run, "--episodes", 2, "--json") == 0
    assert not {"vary", "support_copies"} & set(json.loads(capfd.readouterr().out))


def test_compare_says_how_each_run_s_copies_vary(run, data, tmp_path, capfd):
    turned = train(data, tmp_path / "turned", "--augment", "rotations_affine")
    capfd.readouterr()
    asked = ("compare", run, turned, "--episodes", 4, "--support-copies", 1)
    assert mtl_jax(*asked, "--json") == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["support_copies"], said["query_copies"]) == (1, 0)
    assert [row["vary"] for row in said["runs"]] == ["flip_crop", "affine"]
    assert mtl_jax(*asked) == 0
    assert "augmented copies (flip_crop, affine): 1 of each support image" in capfd.readouterr().out


def test_pictures_are_classified_by_copies_of_the_support_set_too(run):
    settings, learner, theta = load_run(run)
    x = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    labels = np.arange(6, dtype=np.int32) % 3
    asked = {"vary": "flip_crop", "support_copies": 2, "query_copies": 0}
    known = Support(x[:6], labels, ("a", "b", "c"), (), ())
    made = classifier.of_run(settings, theta, known, copies=asked)
    seen, _ = classifier.run(made, x[6:])
    more = with_copies(learner, **asked)
    scaled = x.astype(np.float32) / 255
    expected = more.predict(theta, more.adapt(theta, scaled[:6], labels), scaled[6:])
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
    plain, _ = classifier.run(classifier.of_run(settings, theta, known), x[6:])
    assert np.abs(seen - plain).max() > 1e-3


@pytest.mark.parametrize("given", [("--support-copies", 2), ("--vary", "affine")])
def test_a_backbone_alone_takes_no_copies(given, tmp_path, capfd):
    assert mtl_jax("predict", "lite0", "--support", tmp_path, "--query", tmp_path, *given) == 2
    assert "a backbone's features are made once: leave copies and --vary out" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [(("--vary", "affine"), "none are asked for: give --support-copies N"),
     (("--support-copies", -1), "at least 0, not -1"),
     (("--support-copies", 1, "--vary", "turned"), "unknown vary 'turned': choose one of flip_crop, affine")],
)  # fmt: skip
def test_wrong_copies_end_in_one_line(run, given, said, capfd):
    assert mtl_jax("eval", run, "--episodes", 2, *given) == 2
    err = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert len(err) == 1
    assert said in err[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"augment": "rotations"}, r"varied no image \(augment rotations\): give --vary flip_crop or affine"),
     ({"augment": "none", "backbone": "lite0"}, "a backbone's features are made once")],
)  # fmt: skip
def test_copies_of_what_training_never_varied_are_refused(settings, said):
    of_run = resolve_settings({"learner": "protonet", "dataset": "glyphs", **settings})
    with pytest.raises(ValueError, match=said):
        copies.copies_of(of_run, {"support_copies": 1})
