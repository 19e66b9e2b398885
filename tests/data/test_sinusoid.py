"""sample_sinusoid: one sinusoid a task, within the ranges."""

import jax
import numpy as np
import pytest

from mtl_jax.data.sinusoid import SinusoidPool, sample_sinusoid


def test_points_lie_on_one_sinusoid_within_the_ranges():
    draw = jax.jit(jax.vmap(lambda k, pool: sample_sinusoid(k, pool, 5, 7), in_axes=(0, None)))
    ep = draw(jax.random.split(jax.random.key(0), 400), SinusoidPool())  # the pool is an argument of jit
    assert ep.support_x.shape == ep.support_y.shape == (400, 5, 1)
    assert ep.query_x.shape == (400, 7, 1)
    assert ep.classes is None
    amplitudes, phases = [], []
    for sx, sy, qx, qy in zip(*(np.asarray(a, np.float64)[..., 0] for a in ep[:4]), strict=True):
        # A sin(x - b) = A cos(b) sin(x) - A sin(b) cos(x): fitted on both sets, it leaves nothing over.
        x, y = np.concatenate([sx, qx]), np.concatenate([sy, qy])
        basis = np.stack([np.sin(x), -np.cos(x)], 1)
        (c, s), *_ = np.linalg.lstsq(basis, y, rcond=None)
        np.testing.assert_allclose(basis @ [c, s], y, atol=1e-5)
        amplitudes.append(np.hypot(c, s))
        phases.append(np.arctan2(s, c))
    every_x = np.concatenate([ep.support_x, ep.query_x], 1)
    for values, low, high in ((amplitudes, 0.1, 5), (phases, 0, np.pi), (every_x, -5, 5)):
        assert low - 1e-3 <= np.min(values) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < np.max(values) <= high + 1e-3
        assert abs(np.mean(values) - (low + high) / 2) < 0.06 * (high - low)


def test_same_key_same_task(key):
    one, two = sample_sinusoid(key, SinusoidPool()), sample_sinusoid(key, SinusoidPool())
    np.testing.assert_array_equal(one.support_y, two.support_y)
    other = sample_sinusoid(jax.random.key(1), SinusoidPool())
    assert not np.array_equal(one.support_y, other.support_y)
    assert one.support_x.shape == (10, 1)


def test_counts_are_checked(key):
    with pytest.raises(ValueError, match="shots must be at least 1, not 0"):
        sample_sinusoid(key, SinusoidPool(), shots=0)
