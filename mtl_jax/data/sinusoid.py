"""Regression episodes: sinusoids of random amplitude and phase."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.types import Array, Episode


class SinusoidPool(NamedTuple):
    """The ranges that sinusoids are drawn from, uniformly; numbers, so a pool may be an argument of a jitted function.

    Attributes:
        amplitude: (least, greatest), in units of y.
        phase: (least, greatest), in radians.
        x: (least, greatest), in radians.
    """

    amplitude: tuple[float | Array, float | Array] = (0.1, 5.0)
    phase: tuple[float | Array, float | Array] = (0.0, math.pi)
    x: tuple[float | Array, float | Array] = (-5.0, 5.0)


def sample_sinusoid(key: Array, pool: SinusoidPool, shots: int = 10, queries: int = 10) -> Episode:
    """Draw one task: points of a sinusoid, to adapt on and to be judged on.

    y = A sin(x - b), with one amplitude A and phase b a task.

    Args:
        key: a JAX random key.
        pool: the ranges to draw from.
        shots: support points.
        queries: query points.

    Returns:
        Episode with support_x and support_y [shots, 1] float32, query_x and query_y [queries, 1] float32, and
        classes None.

    Raises:
        ValueError: shots or queries below 1.

    Reference: Finn et al. 2017, arXiv 1703.03400.
    """
    for name, value in (("shots", shots), ("queries", queries)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    amplitude_key, phase_key, x_key = jax.random.split(key, 3)
    amplitude = _uniform(amplitude_key, (), pool.amplitude)
    phase = _uniform(phase_key, (), pool.phase)
    x = _uniform(x_key, (shots + queries, 1), pool.x)
    y = amplitude * jnp.sin(x - phase)
    return Episode(support_x=x[:shots], support_y=y[:shots], query_x=x[shots:], query_y=y[shots:])


def _uniform(key: Array, shape: tuple[int, ...], bounds: tuple[float | Array, float | Array]) -> Array:
    low, high = (jnp.asarray(bound, jnp.float32) for bound in bounds)
    return low + (high - low) * jax.random.uniform(key, shape, jnp.float32)
