"""Weights that come with the package: each is small, has its card, and loads by its name as a run does."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from mtl_jax import cli
from mtl_jax.app import build, commands, load_run, methods, shipped
from mtl_jax.app.options import Parser
from mtl_jax.app.runs import read_settings

CARD = {"about", "data", "not_for", "command", "seed", "commit", "steps", "dtype", "tests", "config"}


@pytest.fixture
def made(tmp_path, monkeypatch, key):
    """Weights of a small protonet under a name of their own."""
    settings = methods.resolve_settings(
        {"learner": "protonet", "dataset": "glyphs", "width": 4, "image_shape": [28, 28, 1]}
    )
    learner = build.build_learner(settings)
    theta = learner.init(key, np.zeros((1, 28, 28, 1), np.float32))
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(v)
        for path, v in jax.tree_util.tree_leaves_with_path(theta)
    }
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    test = {"dataset": "glyphs", "ways": 5, "shots": 1, "accuracy": 0.9, "ci95": 0.01}
    card = dict.fromkeys(CARD, "x") | {"dtype": "float16", "tests": [test], "config": methods.given_of(settings)}
    shipped.write("small", leaves, card, tmp_path)
    return settings, theta


def test_a_name_loads_what_was_written_in_float16(made):
    settings, theta = made
    run = load_run("small")
    assert run.settings == settings
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, np.asarray(b, np.float16).astype(np.float32)), run.theta, theta
    )


def test_a_folder_of_that_name_comes_first_and_names_are_said(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"no config\.json in small: .*, the name of weights \(small\) or of a backbone \(lite0"
    ):
        read_settings("small")


def test_learners_lists_them(made, capsys):
    cli.main(["learners"])
    assert "small                x 5-way 1-shot on glyphs: 90.00 ± 1.00 %" in capsys.readouterr().out


@pytest.mark.parametrize("name", shipped.names())
def test_each_is_small_has_its_card_and_says_nothing_of_the_machine_it_was_made_on(name):
    folder = Path(shipped.FOLDER)
    assert (folder / f"{name}.npz").stat().st_size <= 600_000
    card = shipped.read_card(name)
    assert set(card) == CARD
    assert card["tests"][0]["episodes"] >= 600
    assert not [word for word in json.dumps(card).split('"') if word.startswith("/")]
    run = load_run(name)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.theta))


@pytest.mark.parametrize("name", shipped.names())
def test_the_command_of_each_is_one(name):
    card = shipped.read_card(name)
    for line in card["command"].split("; "):
        program, command, learner, *asked = line.split()
        assert (program, command) == ("mtl-jax", "train")
        parser = Parser(prog=line)
        commands.COMMANDS["train"][1](parser, learner)
        given = vars(parser.parse_args(asked))
    config = {k: v for k, v in card["config"].items() if k in given and k not in ("out", "init")}
    wanted = methods.resolve_settings({"learner": learner, **{k: given[k] for k in config}})
    assert {k: methods.given_of(wanted)[k] for k in config} == config
