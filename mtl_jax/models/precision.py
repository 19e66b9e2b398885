"""in_bfloat16: a network's arithmetic in 16 bits, its parameters and what it returns in 32."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.types import Array, Model, ModelApply, PyTree

KEPT = ("scale", "shift")  # of normalisation, whose moments and arithmetic stay in float32 as well


class Rounded(NamedTuple):
    """A network's `apply` in bfloat16, of a type by which a learner can tell it.

    Attributes:
        apply: the network's own, for float32.
    """

    apply: ModelApply

    def __call__(self, params: PyTree, x: Array, stats: PyTree = None) -> tuple[Array, PyTree]:
        def rounded(path: Any, leaf: Array) -> Array:
            keys = [getattr(part, "key", None) for part in path]
            return leaf if keys[-1] in KEPT or keys[0] == "head" else leaf.astype(jnp.bfloat16)

        x = jnp.asarray(x)
        params = jax.tree.map_with_path(rounded, params)
        with jax.numpy_dtype_promotion("standard"):  # the head's float32 meets features in 16 bits
            out, moments = self.apply(params, x.astype(jnp.bfloat16), stats)
        return out.astype(x.dtype), moments


def in_bfloat16(net: Model) -> Model:
    """The same network with products and maps in bfloat16; parameters, moments, outputs and gradients stay float32.

    y = float32(f(bfloat16(theta), bfloat16(x)))

    An accelerator multiplies bfloat16 several times as fast, and maps take half the memory. Since the rounding is in
    `apply` alone, inner and outer updates add float32 to float32. Normalisation and the head compute in float32: a mean
    taken off in 16 bits leaves few of them, and logits feed every gradient. It seldom pays on a CPU.

    Args:
        net: a network whose parameters are float32.

    Returns:
        Model with net's parameters; outputs are of x's dtype. They carry 8 bits: about two decimal digits.

    Note: several inner steps through the whole network amplify the rounding: weights alone, rounded to 8 bits, turn the
    meta-gradient of five such steps (docs/precision.md); learners warn of it.

    Reference: Micikevicius et al. 2018, arXiv 1710.03740 (master weights); Kalamkar et al. 2019, arXiv 1905.12322.
    """

    return Model(net.init, Rounded(net.apply))
