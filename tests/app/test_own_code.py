"""A learner and a network of one's own on the command line: trained, evaluated from elsewhere, or refused."""

import json

import pytest
from command_line import mtl_jax

from mtl_jax.app import load_run, methods

MINE = '''
import jax
from mtl_jax import Learner, models
from mtl_jax.learners.objective import objective


def bias_only(net, inner_lr=1.0, note="plain"):
    """phi = theta's head bias - inner_lr grad L_support(bias).

    Args:
        inner_lr: rate of the one step.
    """

    def apply(theta, bias, x):
        return net.apply({**theta, "head": {**theta["head"], "bias": bias}}, x)[0]

    def adapt(theta, x, y):
        bias = theta["head"]["bias"]
        return bias - inner_lr * jax.grad(lambda b: objective(apply(theta, b, x), y)[0])(bias)

    def loss(theta, episode):
        phi = adapt(theta, episode.support_x, episode.support_y)
        return objective(apply(theta, phi, episode.query_x), episode.query_y)

    return Learner(net.init, adapt, apply, loss)


def means(net, ways: int | None = None):
    from mtl_jax import learners

    return learners.protonet(net, ways=ways)


def net(ways, width=4):
    return models.conv4(ways, width, "none", "stride")


def linear(ways):
    return models.mlp(ways, ())


def nothing(ways):
    return 3


def no_ways():
    return 3
'''


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "my.py").write_text(MINE)
    return tmp_path / "my.py"


def small(data):
    return (
        "--dataset",
        f"folder:{data}",
        "--ways",
        "2",
        "--queries",
        "2",
        "--tasks",
        "2",
        "--steps",
        "2",
        "--val-episodes",
        "2",
    )


def test_a_learner_and_a_network_of_ones_own_train_and_are_evaluated_from_elsewhere(
    mine, colours, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    given = ("--learner-file", "my.py:bias_only", "--inner-lr", "0.5", "--model-file", "my.py:net", "--width", "2")
    assert mtl_jax("train", *given, *small(colours), "--out", "run") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["learner"], config["model"]) == (f"{mine}:bias_only", "file")
    assert (config["inner_lr"], config["norm"], config["model_file"]) == (0.5, "own", f"{mine}:net")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_run("../run").theta["head"]["bias"].shape == (2,)
    capsys.readouterr()
    assert mtl_jax("eval", "../run", "--episodes", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["norm"] == "own"


def test_a_network_of_ones_own_takes_a_backbones_features(mine, colours, tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_JAX_CACHE", str(tmp_path / "cache"))
    given = ("--backbone", "lite0", "--model-file", f"{mine}:linear", "--image-size", "8")
    assert mtl_jax("train", "maml", *given, *small(colours), "--out", tmp_path / "run") == 0
    settings = load_run(tmp_path / "run").settings
    assert (settings.network.norm, settings.network.model) == ("frozen", "file")


def test_a_factory_with_ways_gets_a_network_without_head(mine, colours, tmp_path):
    given = ("--learner-file", f"{mine}:means", "--width", "2")
    assert mtl_jax("train", *given, *small(colours), "--out", tmp_path / "run") == 0
    assert "head" not in load_run(tmp_path / "run").theta
    assert methods.find_method(f"{mine}:bias_only").network == "head"


def test_help_shows_the_options_of_ones_own_factory(mine, capsys):
    assert mtl_jax("train", "--learner-file", f"{mine}:bias_only", "--help") == 0
    told = capsys.readouterr().out
    assert "--inner-lr X" in told
    assert "rate of the one step (default: 1.0)" in told


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--learner-file", "none.py:f"), "no file"),
        (("--learner-file", "my.py"), "named FILE.py:FUNCTION"),
        (("--learner-file", "my.py:other"), "has no function other: it has bias_only, means, net"),
        (("maml", "--model-file", "my.py:nothing"), "gives int, not a Model"),
        (("maml", "--model-file", "my.py:no_ways"), "has no argument ways"),
        (("maml", "--model-file", "my.py:net", "--norm", "support"), "has no argument norm"),
        (("maml", "--model-file", "my.py:nothing", "--width", "3"), "has no argument width"),
        (("maml", "--model-file", "my.py:net", "--model", "mlp"), "give that, and no other model"),
        (("maml", "--norm", "own"), "norm own is that of a network of --model-file"),
        (("maml", "--model", "file"), "model file is what --model-file"),
        (("relation", "--model-file", "my.py:net"), "has no argument maps"),
        (("maml", "--model-file", "broken.py:net"), "is not Python"),
        (("maml", "--model-file", "fails.py:net"), "cannot be run: ZeroDivisionError"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(mine, colours, tmp_path, monkeypatch, capsys, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def net(ways:\n")
    (tmp_path / "fails.py").write_text("1 / 0\n\n\ndef net(ways):\n    return None\n")
    assert mtl_jax("train", *given, *small(colours), "--out", "run") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "run").exists()
