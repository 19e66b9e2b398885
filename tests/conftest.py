"""Strict types in every test, one fresh cache a session, and the real data sets where they are said to be."""

import fcntl
import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# Compiling is most of the time of these tests: most of that goes with LLVM's optimisations and the newer of XLA's two
# emitters of a CPU's loops, which no test is about.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")

import hypothesis
import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
# No deadline: an example's first call compiles. No luck: a run finds what the last one found.
hypothesis.settings.register_profile("mtl_jax", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("mtl_jax")


def pytest_configure(config):
    """Make the session's own cache, unless MTL_JAX_CACHE names one to keep from run to run.

    A fresh one is honest: data sets are drawn and resized, and the command line compiles, as on a new machine. Tests
    themselves compile without a cache unless JAX_COMPILATION_CACHE_DIR is set. xdist's workers inherit the folder.
    """
    if hasattr(config, "workerinput") or "MTL_JAX_CACHE" in os.environ:
        return
    config.mtl_jax_cache = os.environ["MTL_JAX_CACHE"] = tempfile.mkdtemp(prefix="mtl_jax_tests_")


def pytest_unconfigure(config):
    """Remove the session's cache."""
    if folder := getattr(config, "mtl_jax_cache", None):
        del os.environ["MTL_JAX_CACHE"]
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Mark what needs real data sets, and start with the slow tests: the workers end together."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker("data")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Programs of one file's learners are of no use to the next: kept, they take a worker several gigabytes."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def key():
    """A random key."""
    return jax.random.key(0)


@pytest.fixture(scope="session")
def real_data():
    """A real data set's split as a pool: real_data("omniglot", "test").

    Skips only where TFDS_DATA_DIR is unset; where it is set, a data set that is missing fails the test.
    """

    def load(name, split="test", **settings):
        if not os.environ.get("TFDS_DATA_DIR"):
            pytest.skip(f"TFDS_DATA_DIR is unset: set it to a folder where TFDS has prepared {name}")
        return _load_once(name, split, **settings)

    return load


@pytest.fixture(scope="session")
def glyphs():
    """A split of the built-in data set as a pool: glyphs("train"); drawn once a session, by whoever asks first."""
    return lambda split="test", **settings: _load_once("glyphs", split, **settings)


def _load_once(name, split, **settings):
    """Load while no other worker does: the second finds what the first has cached."""
    from mtl_jax import datasets

    folder = Path(os.environ["MTL_JAX_CACHE"])
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return datasets.load(name, split, **settings)
