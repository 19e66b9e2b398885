"""draw_distinct: numbers drawn without putting any back, by which episodes choose classes, inputs and rows."""

import jax
import jax.numpy as jnp

from mtl_jax.types import Array


def draw_distinct(key: Array, count: Array, bound: int, n: int) -> Array:
    """n distinct integers of [0, count), count <= bound, in random order: the n largest of random scores."""
    scores = jax.random.uniform(key, (bound,), jnp.float32)
    return jax.lax.top_k(jnp.where(jnp.arange(bound) < count, scores, -1.0), n)[1]
