"""What mtl-jax says of itself: help, completion and the data sets that there are."""

import re
import subprocess
import sys

import pytest
from command_line import mtl_jax

from mtl_jax.app import methods
from mtl_jax.app.settings import all_fields


def test_help_answers_without_jax():
    for args, said in ((["train", "maml", "--help"], ["--inner-steps"]), (["train", "--help"], list(methods.METHODS)),
                       ([], ["mtl-jax train protonet"]), (["learners"], ["arXiv 1703.03400"])):  # fmt: skip
        code = f"import sys\nfrom mtl_jax import cli\ntry: cli.main({args})\nexcept SystemExit: pass\n"
        code += "sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert all(word in " ".join(done.stdout.split()) for word in said)


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_learners_help_has_its_own_options_and_no_others(name, capsys):
    assert mtl_jax("train", name, "--help") == 0
    out = capsys.readouterr().out
    own = {o.replace("_", "-") for o in methods.method_options(methods.find_method(name))}
    every = {o.replace("_", "-") for m in methods.METHODS.values() for o in methods.method_options(m)}
    shown = set(re.findall(r"^ +--([\w-]+)", out, re.MULTILINE))
    assert own <= shown
    common = {f.replace("_", "-") for f in all_fields()}
    assert not (every - own - common) & shown
    for option in own:  # each is explained
        text = re.search(rf"^ +--{option}\b.*?(?=^ +--|^\S|\Z)", out, re.MULTILINE | re.DOTALL)[0]
        assert len(text.split()) > 4, option


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_learners_options(shell, capsys):
    assert mtl_jax("--completion", shell) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("train", "protonet", "--distance", "--inner-steps", "--support"))
    assert mtl_jax("--completion", "nonsense") == 2
    assert "choose one of bash" in capsys.readouterr().err


def test_datasets_are_listed(capsys):
    assert mtl_jax("datasets") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("glyphs", "digits", "omniglot", "cifar_fs", "fc100", "folder:/path"))
