"""resnet12: the residual network of the few-shot papers."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mtl_jax.models.arguments import checks_arguments
from mtl_jax.models.broadcasting import broadcasting
from mtl_jax.models.layers import Conv, Norm, NormMode, check_floats, convolve_block, initialiser, max_pool
from mtl_jax.types import Array, Model

SLOPE = 0.1  # of the leaky ReLUs


class _Residual(nn.Module):
    width: int
    norm: str

    @nn.compact
    def __call__(self, x: Array, stats: Any = None) -> tuple[Array, Any]:
        given = iter(stats or (None,) * 4)
        used, y = [], x
        for i in range(3):
            y, moments = convolve_block(
                y, Conv(self.width, name=f"conv{i}"), Norm(self.norm, name=f"norm{i}"), next(given), False
            )
            used.append(moments)
            y = nn.leaky_relu(y, SLOPE) if i < 2 else y
        skip, moments = Norm(self.norm, name="skip_norm")(Conv(self.width, 1, name="skip")(x), next(given))
        # ReLU grows with its argument, so that it commutes with the pool and sees a quarter of the values after it
        return nn.leaky_relu(max_pool(y + skip), SLOPE), (*used, moments)


class _ResNet12(nn.Module):
    ways: int | None
    widths: tuple[int, ...]
    norm: str

    @nn.compact
    def __call__(self, x: Array, stats: Any = None) -> tuple[Array, Any]:
        used = []
        for i, width in enumerate(self.widths):
            x, moments = _Residual(width, self.norm, name=f"block{i}")(x, None if stats is None else stats[i])
            used.append(moments)
        x = x.mean((1, 2))
        if self.ways is not None and (self.is_initializing() or self.has_variable("params", "head")):
            head = nn.Dense(self.ways, name="head", kernel_init=nn.initializers.normal(0.01), param_dtype=x.dtype)
            x = head(x)
        return x, tuple(used) if self.norm == "support" else None


@checks_arguments
def resnet12(ways: int | None = 5, widths: Sequence[int] = (16, 32, 64, 128), norm: NormMode = "transductive") -> Model:
    """Four residual blocks of three 3x3 convolutions and a 2x2 max-pool, a spatial mean, then a linear head.

    Args:
        ways: outputs of the linear head; None for the features alone, as metric learners want them.
        widths: filters of each block: (64, 160, 320, 640) and (64, 128, 256, 512) are the papers'; the default is
            narrow, for a CPU.
        norm: "transductive", "support" or "none", as in `conv4`.

    Returns:
        Model for x [n, height, width, channels]; outputs [n, ways], or features [n, widths[-1]]. Parameters are a dict
        with block0..3, each {conv0..2, norm0..2, skip, skip_norm}, and, given `ways`, head {kernel, bias}.

    Raises:
        ValueError: an unknown norm, other than four widths, a width or ways below 1, or (in init and apply)
            images below 16x16 or of whole numbers, such as a pool's.

    Reference: Lee et al. 2019, arXiv 1904.03758 (64-160-320-640); Sun et al. 2019, arXiv 1812.02391 (64-128-256-512).

    Note: the first of these drop features and blocks of the maps in training (DropBlock); there is none here.
    """
    if len(widths) != 4 or min((*widths, 1 if ways is None else ways)) < 1:
        raise ValueError(f"resnet12 wants four widths and ways of at least 1, not {tuple(widths)} and {ways}")
    module = _ResNet12(ways, tuple(widths), norm)

    def check(x: Array) -> None:
        if x.ndim != 4 or min(x.shape[1:3]) < 16:
            raise ValueError(f"resnet12 wants x [n, height, width, channels], at least 16x16 to pool, not {x.shape}")
        check_floats(x)

    @broadcasting
    def apply(params: Any, x: Array, stats: Any = None) -> tuple[Array, Any]:
        check(x)
        return module.apply({"params": params}, jnp.asarray(x), stats)

    return Model(initialiser(module, check), apply)
