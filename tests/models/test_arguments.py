"""Arguments of factories against their annotations."""

import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import learners, models
from mtl_jax.app.methods import METHODS, factory_of
from mtl_jax.models.arguments import checks_arguments

ODD = {
    int: (1.5, "x", math.nan, -1, True, 10**30),
    float: ("x", math.nan, math.inf),
    str: ("nothing", 3),
    bool: ("x", 2),
}
# What only the network's own names, and the run, can say.
THEIR_OWN = {("cavia", "layer", "nothing")}


@checks_arguments
def factory(net: object, steps: int = 1, rate: float = 0.1, word: Literal["a", "b"] = "a", on: bool = False):
    return steps, rate, word, on


def test_what_fits_is_taken_and_arrays_are_the_factorys_own():
    assert factory(None, np.int64(3), 1, "b", on=True) == (3, 1, "b", True)
    assert factory(None, rate=jnp.float32(2.0))[1] == 2.0


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"steps": 1.5}, ValueError, "steps is a whole number, not 1.5"),
        ({"steps": True}, TypeError, "steps is a whole number, not True"),
        ({"steps": 10**30}, ValueError, "steps must be at most 1,000,000,000"),
        ({"rate": math.inf}, ValueError, "rate must be finite, not inf"),
        ({"rate": "x"}, TypeError, "rate is a number, not 'x'"),
        ({"word": "c"}, ValueError, "unknown word 'c': choose a or b"),
        ({"on": 1}, TypeError, "on is true or false, not 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(given, error, said):
    with pytest.raises(error, match=said):
        factory(None, **given)


@pytest.mark.parametrize("name", METHODS)
def test_no_odd_value_of_a_methods_setting_is_taken(name):
    method = METHODS[name]
    net = models.conv4(5 if method.network == "head" else None, 4, maps=method.network == "maps")
    usual = {"ways": 5, "classes": 9, "width": 4}
    for option in factory_of(method).options:
        for value in ODD[option.kind]:
            if (name, option.name, value) in THEIR_OWN:
                continue
            given = {k: v for k, v in usual.items() if k in method.needs} | {option.name: value}
            with pytest.raises((ValueError, TypeError)):
                getattr(learners, method.function)(net, **given)
