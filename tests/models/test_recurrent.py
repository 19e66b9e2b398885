"""The recurrent layer against its equations in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.models.recurrent import lstm_cell


def numpy_step(params, c, h, x):
    """One column, gate by gate."""
    kernels, biases = (np.split(np.asarray(params[k]), 4) for k in ("kernel", "bias"))
    i, f, g, o = (k @ np.concatenate([x, h]) + b for k, b in zip(kernels, biases, strict=True))
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


@pytest.mark.parametrize("scale", [None, 0.7])
def test_steps_equal_the_equations(key, scale):
    with jax.enable_x64(True):
        cell = lstm_cell(4, scale)
        x = jax.random.normal(key, (3, 2, 5), jnp.float64)
        params = cell.init(key, 2, x.dtype)
        carry, state = cell.start(5, x.dtype), [(np.zeros(4), np.zeros(4))] * 5
        for now in x:
            carry, out = cell.step(params, carry, now)
            state = [numpy_step(params, *state[j], np.asarray(now)[:, j]) for j in range(5)]
            np.testing.assert_allclose(carry, np.moveaxis(state, 0, 2), rtol=1e-9)
            np.testing.assert_array_equal(out, carry[1])


@pytest.mark.parametrize(("scale", "bound"), [(0.01, 0.01), (None, 20**-0.5)])
def test_weights_start_in_the_range_that_is_said(key, scale, bound):
    params = lstm_cell(20, scale).init(key, 4, jnp.float32)
    assert {k: v.shape for k, v in params.items()} == {"kernel": (80, 24), "bias": (80,)}
    assert 0.99 * bound < params["kernel"].max() <= bound
    assert -0.99 * bound > params["kernel"].min() >= -bound
    assert (jnp.abs(params["bias"]).max() > 0) == (scale is not None)
    assert jnp.abs(params["bias"]).max() <= bound


@pytest.mark.parametrize("settings", [(0, None), (4, 0.0)])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match="features of at least 1 and a scale above 0"):
        lstm_cell(*settings)
