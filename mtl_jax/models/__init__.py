"""Networks as pure functions; the only floor that knows flax."""

from mtl_jax.models.conv4 import conv4
from mtl_jax.models.efficientnet import efficientnet, efficientnet_maps
from mtl_jax.models.from_library import from_equinox, from_linen, from_nnx
from mtl_jax.models.info import pretrained_info
from mtl_jax.models.mlp import mlp
from mtl_jax.models.precision import in_bfloat16
from mtl_jax.models.pretrained import pretrained, pretrained_maps
from mtl_jax.models.relation import relation_module
from mtl_jax.models.resnet import resnet, resnet_maps
from mtl_jax.models.resnet12 import resnet12
from mtl_jax.models.vit import vit
from mtl_jax.types import Model

__all__ = [
    "Model",
    "conv4",
    "efficientnet",
    "efficientnet_maps",
    "from_equinox",
    "from_linen",
    "from_nnx",
    "in_bfloat16",
    "mlp",
    "pretrained",
    "pretrained_info",
    "pretrained_maps",
    "relation_module",
    "resnet",
    "resnet12",
    "resnet_maps",
    "vit",
]
