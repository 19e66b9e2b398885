"""conv4: the four-block network of the few-shot papers."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mtl_jax.models.layers import Conv, Norm, check_norm, initialiser, max_pool
from mtl_jax.types import Array, Model


class _Conv4(nn.Module):
    ways: int | None
    width: int
    norm: str
    downsample: str

    @nn.compact
    def __call__(self, x: Array, stats: Any = None) -> tuple[Array, Any]:
        used = []
        for i in range(4):
            x = Conv(self.width, stride=1 if self.downsample == "pool" else 2, name=f"conv{i}")(x)
            x, moments = Norm(self.norm, name=f"norm{i}")(x, None if stats is None else stats[i])
            used.append(moments)
            # pooling and ReLU commute; pooled first, ReLU and its derivatives see a quarter of the values
            x = nn.relu(max_pool(x) if self.downsample == "pool" else x)
        x = x.reshape(len(x), -1) if self.downsample == "pool" else x.mean((1, 2))
        # without a head among the parameters the features come out: ANIL and its kin compute them once
        if self.ways is not None and (self.is_initializing() or self.has_variable("params", "head")):
            head = nn.Dense(self.ways, name="head", kernel_init=nn.initializers.normal(0.01), param_dtype=x.dtype)
            x = head(x)
        return x, tuple(used) if self.norm == "support" else None


def conv4(ways: int | None = 5, width: int = 64, norm: str = "transductive", downsample: str = "pool") -> Model:
    """Four blocks of 3x3 convolution, normalisation, 2x2 max-pool and ReLU, then a linear head.

    Args:
        ways: outputs of the linear head; None for the features alone, as metric learners want them.
        width: filters of each block.
        norm: "transductive" (each batch's own moments), "support" (queries use the support set's moments) or "none".
        downsample: "pool", or "stride" for convolutions of stride 2 and a spatial mean (MAML's Omniglot network).

    Returns:
        Model for x [n, height, width, channels]; outputs [n, ways], or features [n, d]. Parameters are a dict with
        conv0..3, norm0..3 and, given `ways`, head {kernel [d, ways], bias [ways]}.

    Raises:
        ValueError: an unknown norm or downsample, a width or ways below 1.

    Reference: Vinyals et al. 2016, arXiv 1606.04080; Finn et al. 2017, arXiv 1703.03400.

    Note: MAML's code has no scale in its normalisation; here scale and shift are both learned.
    """
    check_norm(norm)
    if downsample not in ("pool", "stride"):
        raise ValueError(f"unknown downsample {downsample!r}: choose pool or stride")
    if width < 1 or (ways is not None and ways < 1):
        raise ValueError(f"width {width} and ways {ways} must be at least 1")
    module = _Conv4(ways, width, norm, downsample)

    def apply(params: Any, x: Array, stats: Any = None) -> tuple[Array, Any]:
        if x.ndim != 4 or (downsample == "pool" and min(x.shape[1:3]) < 16):
            raise ValueError(f"conv4 wants x [n, height, width, channels], at least 16x16 to pool, not {x.shape}")
        return module.apply({"params": params}, jnp.asarray(x), stats)

    return Model(initialiser(module), apply)
