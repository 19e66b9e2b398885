"""Our functions add [d] to [n, d] as NumPy does, also where a user has JAX refuse that in code of their own."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import jax

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def broadcasting(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The same function, whatever `jax_numpy_rank_promotion` says outside of it."""

    @wraps(function)
    def allowed(*args: Arguments.args, **given: Arguments.kwargs) -> Result:
        with jax.numpy_rank_promotion("allow"):
            return function(*args, **given)

    return allowed
