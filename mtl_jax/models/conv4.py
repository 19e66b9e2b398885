"""conv4: the four-block network of the few-shot papers."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from mtl_jax.models.arguments import checks_arguments
from mtl_jax.models.broadcasting import broadcasting
from mtl_jax.models.layers import Conv, Norm, NormMode, check_floats, convolve_block, initialiser
from mtl_jax.types import Array, Model


class _Conv4(nn.Module):
    ways: int | None
    width: int
    norm: str
    downsample: str
    maps: bool

    @nn.compact
    def __call__(self, x: Array, stats: Any = None) -> tuple[Array, Any]:
        used = []
        for i in range(4):
            down = None if self.maps and i > 1 else self.downsample
            pool = down == "pool" or (down == "mean" and i < 3)
            conv = Conv(self.width, stride=2 if down == "stride" else 1, name=f"conv{i}")
            norm = Norm(self.norm, name=f"norm{i}")
            x, moments = convolve_block(x, conv, norm, None if stats is None else stats[i], pool)
            used.append(moments)
            x = nn.relu(x)  # commutes with pooling; pooled first, ReLU and its derivatives see a quarter of the values
        if self.maps:
            return x, tuple(used) if self.norm == "support" else None
        x = x.reshape(x.shape[0], -1) if self.downsample == "pool" else x.mean((1, 2))
        # without a head among the parameters the features come out: ANIL and its kin compute them once
        if self.ways is not None and (self.is_initializing() or self.has_variable("params", "head")):
            head = nn.Dense(self.ways, name="head", kernel_init=nn.initializers.normal(0.01), param_dtype=x.dtype)
            x = head(x)
        return x, tuple(used) if self.norm == "support" else None


@checks_arguments
def conv4(
    ways: int | None = 5,
    width: int = 64,
    norm: NormMode = "transductive",
    downsample: Literal["pool", "mean", "stride"] = "pool",
    maps: bool = False,
) -> Model:
    """Four blocks of 3x3 convolution, normalisation, 2x2 max-pool and ReLU, then a linear head.

    Args:
        ways: outputs of the linear head; None for the features alone, as metric learners want them.
        width: filters of each block.
        norm: "transductive" (each batch's own moments), "support" (queries use the support set's moments) or "none".
        downsample: "pool"; "mean" for a spatial mean in place of the last max-pool, of `width` features whatever the
            image's size (RFS's network); or "stride" for convolutions of stride 2 and a spatial mean (MAML's Omniglot
            network).
        maps: feature maps in place of features, of a quarter of the image's side, since only the first two blocks
            pool, as the Relation Network wants them; without a head, so ways must be None.

    Returns:
        Model for x [n, height, width, channels]; outputs [n, ways], features [n, d], or maps [n, h, w, width].
        Parameters are a dict with conv0..3, norm0..3 and, given `ways`, head {kernel [d, ways], bias [ways]}.

    Raises:
        ValueError: an unknown norm or downsample, a width or ways below 1, maps with ways, or (in init and apply)
            images too small to pool, of another form, or of whole numbers, such as a pool's.

    Reference: Vinyals et al. 2016, arXiv 1606.04080; Finn et al. 2017, arXiv 1703.03400; Sung et al. 2018, arXiv
    1711.06025 (maps); Tian et al. 2020, arXiv 2003.11539 (mean).

    Note: MAML's code has no scale in its normalisation; here scale and shift are both learned.
    """
    if width < 1 or (ways is not None and ways < 1):
        raise ValueError(f"width {width} and ways {ways} must be at least 1")
    if maps and ways is not None:
        raise ValueError(f"feature maps come without a head: give ways=None with maps=True, not {ways}")
    module = _Conv4(ways, width, norm, downsample, maps)
    least = 4 if maps else 8 if downsample == "mean" else 16

    def check(x: Array) -> None:
        if x.ndim != 4 or (downsample != "stride" and min(x.shape[1:3]) < least):
            raise ValueError(
                f"conv4 wants x [n, height, width, channels], at least {least}x{least} to pool, not {x.shape}"
            )
        check_floats(x)

    @broadcasting
    def apply(params: Any, x: Array, stats: Any = None) -> tuple[Array, Any]:
        check(x)
        return module.apply({"params": params}, jnp.asarray(x), stats)

    return Model(initialiser(module, check), apply)
