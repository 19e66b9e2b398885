"""A run over a frozen backbone: features made once and cached, norm frozen, and pictures taken as they come."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from command_line import mtl_jax

from mtl_jax.app import features
from mtl_jax.app.build import build_learner
from mtl_jax.app.methods import change, resolve_settings
from mtl_jax.app.runs import load_pool, load_run
from mtl_jax.models import pretrained


@pytest.fixture
def photos(four_colours):
    return four_colours


@pytest.fixture(autouse=True)
def made(tiny_backbone, monkeypatch, tmp_path):
    """How often the backbone was made."""
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))
    return tiny_backbone


def train(photos, out, learner, *more):
    sizes = {"ways": 2, "shots": 1, "queries": 2, "steps": 3, "val-every": 3, "val-episodes": 4, "image-size": 8}
    given = [word for name, value in sizes.items() for word in (f"--{name}", value)]
    return mtl_jax(
        "train", learner, "--dataset", f"folder:{photos}", "--backbone", "lite0", "--out", out, *given, *more
    )


def test_train_eval_and_predict_over_cached_features(photos, tmp_path, capsys, made):
    assert train(photos, tmp_path / "run", "r2d2", "--tasks", 2) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [config[k] for k in ("backbone", "model", "norm", "augment", "image_shape")] == [
        "lite0",
        "linear",
        "frozen",
        "none",
        [3],
    ]
    assert made == ["lite0"]
    capsys.readouterr()
    assert mtl_jax("eval", tmp_path / "run", "--shots", 1, "--queries", 4, "--episodes", 20, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["norm"], said["accuracy"], "transductive" in said) == ("frozen", 1.0, False)
    assert made == ["lite0"]  # the cache serves the evaluation
    query = photos / "test" / "yellow"
    assert mtl_jax("predict", tmp_path / "run", "--support", photos / "test", "--query", query, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["norm"] == "frozen"
    assert {row["class"] for row in said["predictions"]} == {"yellow"}
    run = load_run(tmp_path / "run")
    pool = load_pool(run.settings, "test")
    unit, params = features.backbone_of("lite0")
    pixels = load_pool(change(run.settings, backbone=None, norm="none", image_size=8, image_shape=None), "test")
    np.testing.assert_allclose(unit(params, np.asarray(pixels.x)), pool.x, atol=1e-5)
    assert mtl_jax("eval", tmp_path / "run", "--norm", "support") == 2
    assert "own stored moments" in capsys.readouterr().err


@pytest.mark.parametrize("changed", ["backbone", "images", "split"])
def test_features_are_made_anew_where_what_they_are_made_from_has_changed(changed, photos, tmp_path, made):
    places = {"backbone": tmp_path / "w.safetensors", "images": photos / "train" / "red" / "0.png"}
    places |= {"split": tmp_path / "split.json"}
    places["backbone"].write_bytes(b"weights")
    names = sorted(folder.name for folder in (photos / "train").iterdir())
    places["split"].write_text(json.dumps({"train": names[:2], "test": names[2:]}))
    assert places["images"].is_file()

    def asked():
        task = {"dataset": f"folder:{photos / 'train'}", "split_file": str(places["split"]), "image_size": 8}
        return load_pool(resolve_settings({"learner": "r2d2", "backbone": str(places["backbone"]), **task}), "test")

    first = asked()
    assert np.array_equal(asked().x, first.x)
    assert made == [str(places["backbone"])]
    if changed == "split":  # as many classes as before, others
        places["split"].write_text(json.dumps({"train": names[2:], "test": names[:2]}))
    else:
        places[changed].write_bytes(places[changed].read_bytes() + b"more")
    again = asked()
    assert len(made) == 2
    assert (again.names != first.names) == (changed == "split")


def test_parts_of_features_are_not_gone_on_with_by_other_weights(photos, tmp_path, made, monkeypatch):
    weights, out = tmp_path / "w.safetensors", tmp_path / "f.npz"
    weights.write_bytes(b"weights")
    monkeypatch.setattr(features, "_gathered", lambda *parts: 1 / 0)  # cut off before the parts are put together
    with pytest.raises(ZeroDivisionError):
        features.write_features(str(weights), f"folder:{photos}", out, 8)
    weights.write_bytes(b"other weights")
    with pytest.raises(ValueError, match="parts of another setting: remove it"):
        features.write_features(str(weights), f"folder:{photos}", out, 8)


@pytest.mark.parametrize("wrong", ["backbone", "split", "inputs"])
def test_no_features_are_announced_that_are_refused(wrong, photos, tmp_path, monkeypatch, caplog):
    np.savez(tmp_path / "own.npz", x=np.zeros((6, 4), np.float32), y=np.repeat(np.arange(3), 2))
    data = f"npz:{tmp_path / 'own.npz'}" if wrong == "inputs" else f"folder:{photos}"
    split = str(tmp_path / "none.json") if wrong == "split" else None
    if wrong == "backbone":
        monkeypatch.setattr(features, "pretrained", pretrained)
    said = {"backbone": "lite9", "split": "none.json", "inputs": r"\(4,\)"}[wrong]
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        features.cached_features("lite9" if wrong == "backbone" else "lite0", data, 8, split, tmp_path)
    assert "making the features" not in caplog.text
    assert not list((tmp_path / "features").glob("*"))


def test_features_are_announced_once_and_taken_from_the_cache_in_silence(photos, tmp_path, caplog):
    for _ in range(2):
        features.cached_features("lite0", f"folder:{photos}", 8, None, tmp_path)
    assert caplog.text.count("making the features") == 1


def test_files_of_settings_are_named_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = {"dataset": "folder:photos", "split_file": "split.json"}
    settings = resolve_settings({"learner": "r2d2", "backbone": "w.safetensors", **task})
    assert settings.network.backbone == str(tmp_path / "w.safetensors")
    assert settings.task.split_file == str(tmp_path / "split.json")
    assert resolve_settings({"learner": "r2d2", "backbone": "lite0"}).network.backbone == "lite0"


@pytest.mark.parametrize("command", ["eval lite0", "compare lite0:rfs lite0"])
def test_copies_are_refused_before_features_are_made(command, photos, made, capsys):
    place = ("--dataset", f"folder:{photos}", "--image-size", 8, "--ways", 2, "--queries", 2)
    assert mtl_jax(*command.split(), *place, "--support-copies", 2) == 2
    assert "a backbone's features are made once: leave copies and --vary out" in capsys.readouterr().err
    assert made == []


def test_a_transductive_method_says_so_beside_its_norm(photos, tmp_path, capsys):
    assert train(photos, tmp_path / "run", "bdcspn") == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["transductive"] is True
    size = ("--queries", 4, "--episodes", 4)
    capsys.readouterr()
    assert mtl_jax("eval", tmp_path / "run", *size, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["norm"], said["transductive"]) == ("frozen", True)
    assert mtl_jax("eval", tmp_path / "run", *size) == 0
    assert "(transductive: all queries of an episode at once)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"backbone": "lite0", "model": "conv4"}, "conv4 does not take: linear or mlp does"),
        ({"backbone": "lite0", "norm": "support"}, r"norm frozen\), not support"),
        ({"backbone": "lite0", "augment": "flip_crop"}, "cannot be augmented by flip_crop"),
        ({"norm": "frozen"}, "norm frozen is a backbone's"),
    ],
)
def test_what_does_not_go_with_a_backbone_is_said(wrong, said):
    with pytest.raises(ValueError, match=said):
        resolve_settings({"learner": "r2d2", **wrong})


@pytest.mark.parametrize("name", ["simpleshot", "rfs", "meta-baseline", "feat", "simple-cnaps", "tsa", "tim"])
def test_methods_adapt_over_frozen_features(name, key):
    settings = resolve_settings({"learner": name, "backbone": "lite0", "ways": 3})
    learner = build_learner(replace(settings, task=replace(settings.task, classes=4)))
    y = jax.numpy.repeat(jax.numpy.arange(3, dtype=jax.numpy.int32), 2)
    x = 3.0 * jax.numpy.eye(3, 5)[y] + 0.1 * jax.random.normal(key, (6, 5))
    theta = learner.init(key, x)
    logits = learner.predict(theta, learner.adapt(theta, x, y), x)
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(logits.argmax(1), y)


def test_a_method_that_pre_trains_does_so_over_the_same_features(photos, tmp_path, made):
    assert train(photos, tmp_path / "run", "meta-baseline", "--tasks", 2, "--pretrain-steps", 3) == 0
    config = json.loads((tmp_path / "run" / "pretrain" / "config.json").read_text())
    assert [config[k] for k in ("learner", "backbone", "norm")] == ["finetune", "lite0", "frozen"]
    assert made == ["lite0"]


def test_a_network_with_nothing_to_learn_trains_all_the_same(photos, tmp_path):
    assert train(photos, tmp_path / "run", "protonet", "--tasks", 2) == 0


def test_a_backbone_with_a_head_is_measured_compared_and_chosen_without_training(photos, tmp_path, capsys):
    task = ("--dataset", f"folder:{photos}", "--ways", 2, "--queries", 4, "--episodes", 20, "--image-size", 8)
    for name in ("lite0", "lite0:rfs", "lite0:tim"):
        assert mtl_jax("eval", name, *task, "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert (said["norm"], said["accuracy"]) == ("frozen", 1.0)
        assert said.get("transductive", False) is (name == "lite0:tim")
    assert mtl_jax("compare", "lite0", "lite0:r2d2", *task, "--json") == 0
    gap = json.loads(capsys.readouterr().out)["differences"][0]
    assert (gap["run"], gap["minus"], gap["difference"]) == ("lite0:r2d2", "lite0", 0.0)
    query = photos / "test" / "yellow"
    given = ("--support", photos / "test", "--query", query, "--choose", "lite0:rfs", "lite0:r2d2", "--json")
    assert mtl_jax("predict", "lite0", *given) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in said["choices"]] == ["lite0", "lite0:rfs", "lite0:r2d2"]
    assert {row["class"] for row in said["predictions"]} == {"yellow"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("eval", "lite0"), "give --dataset"),
        (("eval", "lite0:maml", "--dataset", "digits"), "no head that a frozen backbone can have untrained"),
        (("eval", "lite0:rsf", "--dataset", "digits"), "did you mean 'rfs'"),
        (("eval", "lite9", "--dataset", "digits"), "of a backbone (lite0"),
        (("eval", "protonet-omniglot", "--image-size", 8), "--image-size is for a backbone"),
        (("eval", "lite0", "--dataset", "digits", "--norm", "support"), "leave --norm out"),
    ],
)
def test_what_a_backbone_cannot_be_asked_is_one_line(words, said, capsys):
    assert mtl_jax(*words) == 2
    assert said in capsys.readouterr().err
