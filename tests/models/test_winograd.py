import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.models import layers
from mtl_jax.models.layers import Conv, Norm, convolve, convolve_block, max_pool
from mtl_jax.models.winograd import winograd, winograd_pays, winograd_tiles


class Block(nn.Module):
    mode: str
    pool: bool

    @nn.compact
    def __call__(self, x):
        return convolve_block(x, Conv(16, name="conv"), Norm(self.mode, name="norm"), None, self.pool)[0]


@pytest.fixture
def patches(monkeypatch):
    """What `convolve` does elsewhere."""

    def run(f, *args):
        with monkeypatch.context() as only:
            only.setattr(layers, "winograd_pays", lambda *_: False)
            return f(*args)

    return run


def drawn(key, shape, out, dtype):
    x = jax.random.normal(key, shape, dtype)
    return x, jax.random.normal(jax.random.fold_in(key, 1), (3, 3, shape[-1], out), dtype) / shape[-1] ** 0.5


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 6, 2), (3, 5, 7, 4), (2, 1, 2, 3), (1, 3, 3, 1)])
def test_it_is_the_convolution(key, patches, shape):
    with jax.enable_x64(True):
        x, kernel = drawn(key, shape, 5, jnp.float64)
        np.testing.assert_allclose(winograd(x, kernel), patches(convolve, x, kernel), rtol=1e-12, atol=1e-12)


def test_float32_loses_no_more_than_the_sixth_figure(key, patches):
    x, kernel = drawn(key, (8, 14, 14, 64), 64, jnp.float32)
    want = patches(convolve, x, kernel)
    np.testing.assert_allclose(winograd(x, kernel), want, atol=5e-6 * float(jnp.abs(want).max()))


def test_tiles_are_the_windows_of_a_pool(key, patches):
    with jax.enable_x64(True):
        x, kernel = drawn(key, (2, 6, 8, 3), 4, jnp.float64)
        parts = jnp.stack([part for row in winograd_tiles(x, kernel) for part in row])
        np.testing.assert_allclose(parts.max(0), max_pool(patches(convolve, x, kernel)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("side", "pool"), [(8, True), (8, False), (7, True)])
@pytest.mark.parametrize("mode", ["transductive", "none"])
def test_a_blocks_gradients_agree_to_the_second_derivative(key, patches, side, pool, mode):
    with jax.enable_x64(True):
        x, kernel = drawn(key, (11, side, side, 16), 16, jnp.float64)
        assert winograd_pays(x, kernel, 1)
        block = Block(mode, pool)
        params = block.init(key, x)

        def loss(params, x):
            return jnp.tanh(block.apply(params, x)).sum()

        def second(params, x):
            return jax.grad(lambda *a: sum((g * g).sum() for g in jax.tree.leaves(jax.grad(loss, (0, 1))(*a))), (0, 1))

        def both(params, x):
            return jax.grad(loss, (0, 1))(params, x), second(params, x)(params, x)

        got, want = both(params, x), patches(both, params, x)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * float(jnp.abs(b).max()))


def test_where_it_is_chosen(monkeypatch):
    x, kernel = jnp.zeros((10, 8, 8, 16)), jnp.zeros((3, 3, 16, 16))
    assert winograd_pays(x, kernel, 1)
    assert not winograd_pays(x, kernel, 2)
    assert not winograd_pays(x[:5], kernel, 1)
    assert not winograd_pays(x, kernel[..., :8], 1)
    assert not winograd_pays(x, jnp.zeros((5, 5, 16, 16)), 1)
    assert not winograd_pays(x.astype(jnp.bfloat16), kernel, 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not winograd_pays(x, kernel, 1)
