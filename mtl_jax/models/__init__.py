"""Networks as pure functions; the only floor that knows flax."""

from mtl_jax.models.conv4 import conv4
from mtl_jax.models.mlp import mlp

__all__ = ["conv4", "mlp"]
