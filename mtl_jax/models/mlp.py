"""mlp: fully connected layers, for regression and for flat inputs."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn

from mtl_jax.models.arguments import checks_arguments
from mtl_jax.models.broadcasting import broadcasting
from mtl_jax.models.layers import check_floats, initialiser
from mtl_jax.types import Array, Model


class _MLP(nn.Module):
    sizes: tuple[int, ...]
    out: int | None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        dense = partial(nn.Dense, kernel_init=nn.initializers.glorot_normal(), param_dtype=x.dtype)
        for i, size in enumerate(self.sizes):
            x = nn.relu(dense(size, name=f"dense{i}")(x))
        if self.out is not None and (self.is_initializing() or self.has_variable("params", "head")):
            x = dense(self.out, name="head")(x)
        return x


@checks_arguments
def mlp(out: int | None = 1, sizes: Sequence[int] = (40, 40)) -> Model:
    """ReLU layers of the given sizes, then a linear head; MAML's sinusoid network by default.

    Args:
        out: outputs of the head (1 for the sinusoid, ways for classes); None for the features alone.
        sizes: units of each hidden layer.

    Returns:
        Model for x [n, ...], flattened; outputs [n, out]. It has no normalisation: its stats are None.

    Raises:
        ValueError: a size below 1, or (in init and apply) x of whole numbers.

    Reference: Finn et al. 2017, arXiv 1703.03400.
    """
    if min((*sizes, out or 1)) < 1:
        raise ValueError(f"sizes {tuple(sizes)} and out {out} must be at least 1")
    module = _MLP(tuple(sizes), out)

    @broadcasting
    def apply(params: Any, x: Array, stats: Any = None) -> tuple[Array, Any]:
        check_floats(x)
        return module.apply({"params": params}, x), None

    return Model(initialiser(module), apply)
