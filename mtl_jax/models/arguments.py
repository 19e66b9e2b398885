"""Arguments of a factory against its annotations: 1.5 steps, an infinite rate or an unknown word is refused at once."""

import math
import numbers
from collections.abc import Callable
from functools import cache, wraps
from inspect import signature
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import jax
import numpy as np

MOST = 10**9  # of any count

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def checks_arguments(factory: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The same factory, whose numbers, words and switches must be what their annotations say.

    A whole number is no switch and at most 10^9, a number is finite, a word is one of its Literal's. Arrays and tracers
    are the factory's own to check, and so are arguments that take anything else as well.

    Raises:
        ValueError: a value out of range, or an unknown word.
        TypeError: a value of another kind.
    """
    of = signature(factory)

    @wraps(factory)
    def checked(*args: Arguments.args, **given: Arguments.kwargs) -> Result:
        kinds = _kinds(factory)
        for name, value in of.bind(*args, **given).arguments.items():
            if name in kinds:
                _check(name, value, *kinds[name])
        return factory(*args, **given)

    return checked


@cache
def _kinds(factory: Callable) -> dict[str, tuple[frozenset[type], tuple[Any, ...]]]:
    """{argument: (the plain kinds it may have, the words it may be)}, for those that are numbers, words or switches."""
    kinds = {}
    for name, hint in get_type_hints(factory).items():
        parts = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]
        words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
        plain = frozenset(part for part in parts if part in (int, float, str, bool, NoneType))
        rest = [part for part in parts if part not in plain and get_origin(part) is not Literal]
        if name != "return" and all(part is jax.Array for part in rest) and (plain - {NoneType} or words):
            kinds[name] = (plain, tuple(words))
    return kinds


def _check(name: str, value: Any, kinds: frozenset[type], words: tuple[Any, ...]) -> None:
    if isinstance(value, jax.Array | np.ndarray) or (value is None and NoneType in kinds):
        return
    if words and not isinstance(value, bool) and any(value == word for word in words):
        return
    if words and not kinds - {NoneType}:
        right = " or ".join(map(str, words)) if len(words) < 3 else f"one of {', '.join(map(str, words))}"
        raise ValueError(f"unknown {name} {value!r}: choose {right}")
    if isinstance(value, bool | np.bool_):
        if bool not in kinds:
            raise TypeError(f"{name} is {_said(kinds)}, not {value}")
    elif isinstance(value, numbers.Real):
        if not kinds & {int, float}:
            raise TypeError(f"{name} is {'true or false' if bool in kinds else 'a word'}, not {value!r}")
        if float not in kinds and not isinstance(value, numbers.Integral):
            raise ValueError(f"{name} is a whole number, not {value!r}")
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, not {value!r}")
        if float not in kinds and abs(float(value)) > MOST:
            raise ValueError(f"{name} must be at most {MOST:,}, not {value}")
    elif not (isinstance(value, str) and str in kinds):
        raise TypeError(f"{name} is {_said(kinds)}, not {value!r}")


def _said(kinds: frozenset[type]) -> str:
    names = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
    return " or ".join(names[kind] for kind in (bool, int, float, str) if kind in kinds)
