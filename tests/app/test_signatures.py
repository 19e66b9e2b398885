"""What a factory's source says, read without importing it, is what Python says of it."""

import inspect
from typing import get_args

import pytest

from mtl_jax import learners
from mtl_jax.app.methods import METHODS, defaults_of, factory_of, method_options
from mtl_jax.app.options import given_settings
from mtl_jax.app.signatures import read_factory

SETTABLE = (int, float, str, bool)
OWN = '''
from typing import Literal
Word = Literal["a", "b"]
def own(net, rate: float = 0.5, word: Word | None = None, steps: int | None = 3, fast: bool = False, f=None):
    """A method.

    Args:
        rate: how fast,
            per step.
        word, steps: two more.
    """
'''


def kinds(annotation):
    """The plain kinds and the words that an evaluated annotation allows."""
    parts = get_args(annotation) or (annotation,)
    words = [part for part in parts if isinstance(part, str)]
    plain = [part for part in parts if part in SETTABLE]
    for part in parts:
        inner = get_args(part)
        words += [each for each in inner if isinstance(each, str)]
    return plain, words


@pytest.mark.parametrize("name", METHODS)
def test_every_number_word_and_switch_is_an_option_with_its_default(name):
    method = METHODS[name]
    signature = inspect.signature(getattr(learners, method.function), eval_str=True).parameters
    options = {option.name: option for option in factory_of(method).options}
    for argument, parameter in signature.items():
        plain, words = kinds(parameter.annotation)
        if parameter.default is inspect.Parameter.empty or not (plain or words):
            assert argument not in options
            continue
        option = options[argument]
        assert option.default == parameter.default
        assert option.choices == tuple(words)
        assert option.kind is (str if words else float if float in plain else plain[0])
        assert len(option.about) > 5, f"{argument} is not explained in the docstring"
    assert set(method_options(method)) == set(options) - set(method.needs)
    assert {k: defaults_of(name)[k] for k in method_options(method)} == {
        k: signature[k].default for k in method_options(method)
    }


def test_a_file_of_ones_own_is_read_alike(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    factory = read_factory(tmp_path / "own.py", "own")
    assert factory.about == "A method."
    assert [(o.name, o.kind, o.default, o.choices, o.optional) for o in factory.options] == [
        ("rate", float, 0.5, (), False),
        ("word", str, None, ("a", "b"), True),
        ("steps", int, 3, (), True),
        ("fast", bool, False, (), False),
    ]
    assert [o.about for o in factory.options] == ["how fast, per step.", "two more.", "two more.", ""]
    with pytest.raises(ValueError, match="has no function other: it has own"):
        read_factory(tmp_path / "own.py", "other")


def test_what_is_given_is_told_from_what_is_not():
    from argparse import Namespace

    args = Namespace(ways=3, distance="cosine", out="x", json=True)
    assert given_settings(args, "protonet") == {"learner": "protonet", "ways": 3, "distance": "cosine"}
