"""lstm_cell: one step of a long short-term memory, for learners that carry something from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.types import Array, PyTree

Carry = tuple[Array, Array]  # cell state and output, each [features, n]


class Recurrent(NamedTuple):
    """A recurrent layer as pure functions, for n sequences that share its weights and do not see each other.

    A sequence is a column: with few features and many sequences, as a learned update rule has, rows of every gate
    stay contiguous, which took its meta-gradient to a third of the time of a layer on rows.

    Attributes:
        init: (key, d, dtype) -> params, for inputs of d features.
        start: (n, dtype) -> carry, of zeros.
        step: (params, carry, x [d, n]) -> (carry, outputs [features, n]).
    """

    init: Callable[[Array, int, Any], PyTree]
    start: Callable[[int, Any], Carry]
    step: Callable[[PyTree, Carry, Array], tuple[Carry, Array]]


def lstm_cell(features: int, scale: float | None = None) -> Recurrent:
    """Long short-term memory.

    c' = sigmoid(f) * c + sigmoid(i) * tanh(g);  h' = sigmoid(o) * tanh(c'),  [i, f, g, o] = W [x, h] + b

    Args:
        features: units, k.
        scale: W and b start uniform in (-scale, scale); unless given, W in (-1, 1) / sqrt(k), and b at 0.

    Returns:
        Recurrent; params are {kernel [4 k, d + k], bias [4 k]}, the carry is (c, h), and the outputs are h.

    Raises:
        ValueError: features below 1, or a scale not above 0.

    Reference: Hochreiter and Schmidhuber 1997, Neural Computation 9(8); Gers, Schmidhuber and Cummins 2000 (f).
    """
    if features < 1 or (scale is not None and scale <= 0):
        raise ValueError(f"want features of at least 1 and a scale above 0, not {features} and {scale}")

    def init(key: Array, d: int, dtype: Any) -> PyTree:
        kernel_key, bias_key = jax.random.split(key)
        kernel = jax.random.uniform(kernel_key, (4 * features, d + features), dtype, -1.0, 1.0)
        bias = jax.random.uniform(bias_key, (4 * features,), dtype, -1.0, 1.0)
        return {"kernel": kernel * (scale or features**-0.5), "bias": bias * (scale or 0.0)}

    def start(n: int, dtype: Any) -> Carry:
        return jnp.zeros((features, n), dtype), jnp.zeros((features, n), dtype)

    def step(params: PyTree, carry: Carry, x: Array) -> tuple[Carry, Array]:
        c, h = carry
        pre = params["kernel"] @ jnp.concatenate((x, h)) + params["bias"][:, None]
        i, f, g, o = jnp.split(pre, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    return Recurrent(init, start, step)
