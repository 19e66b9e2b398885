"""Networks as pure functions; the only floor that knows flax."""

from mtl_jax.models.conv4 import conv4
from mtl_jax.models.mlp import mlp
from mtl_jax.models.precision import in_bfloat16
from mtl_jax.models.relation import relation_module
from mtl_jax.models.resnet12 import resnet12

__all__ = ["conv4", "in_bfloat16", "mlp", "relation_module", "resnet12"]
