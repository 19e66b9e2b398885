"""in_bfloat16: a network's arithmetic in 16 bits, its parameters and what it returns in 32."""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.types import Array, Model

KEPT = ("scale", "shift")  # of normalisation, whose moments and arithmetic stay in float32 as well


def in_bfloat16(net: Model) -> Model:
    """The same network with products and maps in bfloat16; parameters, moments, outputs and gradients stay float32.

    y = float32(f(bfloat16(theta), bfloat16(x)))

    An accelerator multiplies bfloat16 several times as fast, and maps take half the memory. Since the rounding is in
    `apply` alone, inner and outer updates add float32 to float32. It seldom pays on a CPU.

    Args:
        net: a network whose parameters are float32.

    Returns:
        Model with net's parameters; outputs are of x's dtype. They carry 8 bits: about two decimal digits.

    Reference: Micikevicius et al. 2018, arXiv 1710.03740 (master weights); Kalamkar et al. 2019, arXiv 1905.12322.
    """

    def rounded(path: Any, leaf: Array) -> Array:
        keys = [getattr(part, "key", None) for part in path]
        return leaf if keys[-1] in KEPT or keys[0] == "head" else leaf.astype(jnp.bfloat16)

    def apply(params: Any, x: Array, stats: Any = None) -> tuple[Array, Any]:
        x = jnp.asarray(x)
        out, moments = net.apply(jax.tree.map_with_path(rounded, params), x.astype(jnp.bfloat16), stats)
        return out.astype(x.dtype), moments

    return Model(net.init, apply)
