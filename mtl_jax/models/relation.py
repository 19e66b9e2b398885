"""relation_module: a network that scores how well feature maps go together."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models.arguments import checks_arguments
from mtl_jax.models.broadcasting import broadcasting
from mtl_jax.models.layers import (
    Conv,
    Moments,
    Norm,
    NormMode,
    check_floats,
    convolve,
    initialiser,
    max_pool,
    near_mean,
)
from mtl_jax.types import Array, Model


class Pairs(NamedTuple):
    """Every one of `maps` with every class.

    Attributes:
        maps: [n, h, w, c] feature maps of images.
        classes: [ways, h, w, c] feature maps of classes.
        present: [ways] bool, which classes exist; the others do not count in the moments.
    """

    maps: Array
    classes: Array
    present: Array


class _Relation(nn.Module):
    width: int
    hidden: int
    norm: str

    @nn.compact
    def __call__(self, pairs: Pairs, stats: Any = None) -> tuple[Array, Any]:
        maps, classes, present = pairs
        shape, used = (3, 3, 2 * maps.shape[-1], self.width), []
        kernel = self.param("conv0", nn.initializers.glorot_normal(), shape, maps.dtype)
        # A convolution of joined maps is the sum of two: once a map instead of once a pair.
        of_class, of_map = jnp.split(kernel, 2, axis=2)
        x = convolve(maps, of_map)[:, None] + convolve(classes, of_class)
        x = x.reshape(-1, *x.shape[2:])
        weight = jnp.tile(present.astype(x.dtype), maps.shape[0])
        for i in range(2):
            x = x if i == 0 else Conv(self.width, name="conv1")(x)
            given = _moments(x, weight) if stats is None else stats[i]
            x, moments = Norm(self.norm, name=f"norm{i}")(x, given)
            used.append(moments)
            x = nn.relu(max_pool(x) if min(x.shape[1:3]) > 1 else x)
        x = x.reshape(x.shape[0], -1)
        normal, ones = nn.initializers.glorot_normal(), nn.initializers.ones
        x = nn.relu(nn.Dense(self.hidden, name="dense0", kernel_init=normal, bias_init=ones, param_dtype=x.dtype)(x))
        x = nn.Dense(1, name="dense1", kernel_init=normal, param_dtype=x.dtype)(x)
        return x.reshape(maps.shape[0], -1), tuple(used) if self.norm == "support" else None


@checks_arguments
def relation_module(width: int = 64, hidden: int = 8, norm: NormMode = "transductive") -> Model:
    """Two blocks of 3x3 convolution, normalisation, 2x2 max-pool and ReLU over joined maps, then two linear layers.

    s_ij = g([class map j, map i]), joined by channel

    Args:
        width: filters of each block.
        hidden: units of the linear layer before the last.
        norm: "transductive" (moments of this batch of pairs), "support" (of the pairs of the support set) or "none".

    Returns:
        Model for Pairs in x's place; outputs [n, ways], the score of each pair before the sigmoid. A block whose maps
        are one pixel high or wide does not pool.

    Raises:
        ValueError: an unknown norm, a width or hidden below 1, or (in init and apply) maps that are unlike or of
            whole numbers.

    Reference: Sung et al. 2018, arXiv 1711.06025, figure 2.
    """
    if width < 1 or hidden < 1:
        raise ValueError(f"width {width} and hidden {hidden} must be at least 1")
    module = _Relation(width, hidden, norm)

    def check(pairs: Any) -> None:
        if pairs.maps.ndim != 4 or pairs.maps.shape[1:] != pairs.classes.shape[1:]:
            raise ValueError(
                f"a relation wants feature maps [n, h, w, c], as conv4(ways=None, maps=True) gives, alike for images "
                f"and classes, not {pairs.maps.shape} and {pairs.classes.shape}"
            )
        check_floats(pairs.maps)

    @broadcasting
    def apply(params: Any, pairs: Any, stats: Any = None) -> tuple[Array, Any]:
        check(pairs)
        return module.apply({"params": params}, pairs, stats)

    return Model(initialiser(module, check), apply)


def _moments(x: Array, weight: Array) -> Moments:
    """Mean and variance per channel of x [n, h, w, c], image i counted weight[i] times."""
    share = weight / jnp.maximum(weight.sum(), 1.0)
    near = jax.lax.stop_gradient(near_mean(x))
    x = x - near
    mean, square = share @ x.mean((1, 2)), share @ (x * x).mean((1, 2))
    return near + mean, jnp.maximum(square - mean * mean, 0.0)
