"""host_batches: meta-batches for inputs that do not fit on the device, drawn on the host as `sample_episode` would."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.data.episodes import check_request, draw_classes, draw_images, episode_of, task_keys
from mtl_jax.data.pool import ClassPool
from mtl_jax.types import Array, Episode

AHEAD = 4  # meta-batches drawn before they are asked for


def host_batches(
    key: Array,
    pool: ClassPool,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    augment: str = "none",
    tasks: int = 16,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[Episode]:
    """The meta-batches of steps `start`, `start` + 1, ...: those that training draws on the device from the same key.

    batch k = vmap(sample_episode)(task_keys(key, k, tasks), pool)

    Which inputs a task has is drawn on the host's CPU, and these alone are read, by threads and ahead of time; they
    are moved in the pool's own dtype, and images are turned, cropped and scaled on the device.

    Args:
        key: a JAX random key of any implementation (the bits of "rbg" differ between kinds of device: a host's CPU
            and a GPU then draw different tasks from the same key).
        pool: a ClassPool with its inputs on the host (`ClassPool.from_arrays(..., host=True)`).
        ways, shots, queries, augment: as in `sample_episode`.
        tasks: tasks of a meta-batch.
        start, stop: the first step, and the one after the last; without end if not given.

    Returns:
        Iterator of Episode, each leaf with a leading [tasks] axis.

    Raises:
        ValueError: the pool has too few classes or inputs for the request.
    """
    check_request(pool, ways, shots, queries, augment)
    import grain  # three quarters of a second, which a pool on the device is spared

    draw = _Draw(key, pool, (ways, shots, queries, augment), tasks)
    steps = grain.MapDataset.range(start, np.iinfo(np.int32).max if stop is None else stop)
    options = grain.ReadOptions(num_threads=min(AHEAD, 2), prefetch_buffer_size=AHEAD)
    one = partial(_finish, impl=draw.impl, classes=pool.classes, shots=shots, augment=augment)
    finish = jax.jit(jax.vmap(one))
    return (finish(*map(jnp.asarray, batch)) for batch in steps.map(draw).to_iter_dataset(options))


class _Draw:
    """Step -> (keys as data, classes [tasks, ways], inputs [tasks, ways, shots + queries, ...]), on the host."""

    def __init__(self, key: Array, pool: ClassPool, size: tuple[int, int, int, str], tasks: int):
        if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.wrap_key_data(key)  # an old-style key: bare uint32
        self.impl = str(jax.random.key_impl(key))
        self._x, self._cpu = np.asarray(pool.x), jax.local_devices(backend="cpu")[0]
        self._key = np.asarray(jax.random.key_data(key))
        self._index = jax.tree.map(np.asarray, replace(pool, x=np.zeros(0, np.uint8)))
        self._which = jax.jit(partial(_which, impl=self.impl, size=size, tasks=tasks))

    def __call__(self, step: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with jax.default_device(self._cpu):
            keys, drawn, which = jax.device_get(self._which(self._key, np.int32(step), self._index))
        return keys, drawn, self._x[which]


def _finish(key: Array, drawn: Array, x: Array, impl: str, classes: int, shots: int, augment: str) -> Episode:
    return episode_of(jax.random.wrap_key_data(key, impl=impl), drawn, x, classes, shots, augment)


def _which(key: Array, step: Array, pool: ClassPool, impl: str, size: tuple[int, int, int, str], tasks: int) -> Any:
    ways, shots, queries, augment = size
    keys = task_keys(jax.random.wrap_key_data(key, impl=impl), step, tasks)

    def one(key: Array) -> tuple[Array, Array]:
        drawn = draw_classes(key, pool.classes, ways, augment)
        return drawn, draw_images(key, pool, drawn, shots + queries)

    return jax.random.key_data(keys), *jax.vmap(one)(keys)
