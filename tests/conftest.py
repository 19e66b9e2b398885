"""Strict types in every test, and one cache of prepared data a session."""

import os

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def key():
    return jax.random.key(0)


def pytest_collection_modifyitems(items):
    """Slow tests first: the two workers end together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
