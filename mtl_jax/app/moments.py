"""The moments of a batch of any size, a few images at a time: transductive normalisation in bounded memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.types import Array, Model, PyTree

InBatches = Callable[[Callable[[Array], Any], np.ndarray], Any]  # (f, images) -> f of all images, joined


def batch_moments(net: Model, params: PyTree, images: np.ndarray, pixels: Callable, in_batches: InBatches) -> PyTree:
    """Mean and variance of every normalisation over all images, as `net.apply` takes them for `stats`.

    mean = mean_i m_i;  var = mean_i (v_i + (m_i - mean)^2), with m_i and v_i those of image i alone

    One pass per normalisation, from the first to the last, since the inputs of one depend on the moments of those
    before it: as many passes of the network more, in place of all images' maps at once.

    Args:
        net: the network under norm="support", which uses the moments that it is given and gives those that it used.
        params: its parameters.
        images: [n, ...] uint8.
        pixels: turns some of them into the network's inputs.
        in_batches: applies a function to all of them, a few at a time.

    Returns:
        The same tree of (mean, var) as `net.apply` gives; None where it has no normalisation.
    """
    one = jnp.asarray(images[:1])
    places, form = jax.tree.flatten(jax.eval_shape(lambda x: net.apply(params, pixels(x), None)[1], one), is_leaf=_pair)
    found: list[Any] = [None] * len(places)
    for layer in range(len(places)):
        known = tuple(found[:layer])

        @jax.jit
        def alone(params: PyTree, known: tuple, x: Array, layer: int = layer) -> Any:
            stats = jax.tree.unflatten(form, [*known, *[None] * (len(places) - layer)])

            def of_image(image: Array) -> Any:
                return jax.tree.leaves(net.apply(params, pixels(image[None]), stats)[1], is_leaf=_pair)[layer]

            return jax.vmap(of_image)(x)

        mean, var = in_batches(lambda x, f=alone, k=known: f(params, k, x), images)  # type: ignore[misc]
        whole = mean.mean(0, dtype=np.float64)
        found[layer] = jnp.asarray(whole, mean.dtype), jnp.asarray((var + (mean - whole) ** 2).mean(0), var.dtype)
    return jax.tree.unflatten(form, found)


def _pair(tree: Any) -> bool:
    return isinstance(tree, tuple) and len(tree) == 2 and all(hasattr(leaf, "shape") for leaf in tree)
