"""bench: the time and memory of one compiled meta-step on made-up episodes."""

import resource
import statistics
import sys
import time
from functools import partial
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax.app.build import build_learner
from mtl_jax.app.cost import count_bytes, count_flops
from mtl_jax.app.methods import find_method
from mtl_jax.app.rates import Rates
from mtl_jax.app.settings import Settings, TaskSettings
from mtl_jax.data.batches import sample_batch
from mtl_jax.data.episodes import sample_episode
from mtl_jax.data.pool import ClassPool
from mtl_jax.run.backend import compiler_options
from mtl_jax.run.parallel import auto_chunk, meta_gradient, replicate
from mtl_jax.types import Array, Episode, PyTree

MIB = 2**20


def bench(
    settings: Settings, repeats: int = 7, with_sampling: bool = False, trace: str | PathLike[str] | None = None
) -> dict[str, Any]:
    """Time meta-steps of Adam on a fixed meta-batch with x ~ N(0, 1), or on one drawn anew each step.

    Args:
        settings: the learner's, with the shape of an image.
        repeats: timed steps, after a first one that is not among them.
        with_sampling: draw each step's tasks inside it, from a made-up pool, as training does.
        trace: a folder for a JAX profiler trace of one more step.

    Returns:
        step_ms (median), step_ms_min, first_ms (compilation, or its cache, and the first step), temp_mib (the compiled
        step's own buffers), rss_mib (the process's peak), device_mib (the first device's peak, None where it does not
        say), flops (of matrix products and convolutions in a step), bytes (that these read and write), matmul_gflops
        (this machine's rate for a float32 product of 1024 x 1024 matrices, measured between the steps), share (of that
        rate that the step reaches), operations (of the compiled program, on one device) and traffic (bytes that these
        read and write), shares (of the step's time that the machine would take at its rates of matrix products, memory
        and dispatch alone; see `Rates`), tasks_per_s, task_chunk, device, and devices (a CPU has one a core).

    Raises:
        ValueError: repeats below 1, or settings that make no learner.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    task, count = settings.task, settings.task.tasks
    assert task.image_shape is not None
    learner, rule, key = build_learner(settings), optax.adam(1e-3), jax.random.key(settings.run.seed)
    jax.eval_shape(learner.init, key, jax.ShapeDtypeStruct((1, *task.image_shape), "float32"))  # refuse early
    batches = find_method(settings.learner).trains_on == "batches"
    tasks, pool, draw = _made_up(key, task, with_sampling, batches)
    first = draw(jax.tree.map(lambda a: a[0], tasks), pool)
    chunk = settings.run.task_chunk or auto_chunk(first, count)
    theta = learner.init(key, first.support_x)

    def task_loss(theta: PyTree, task: PyTree, pool: ClassPool | None) -> tuple[Array, dict[str, Array]]:
        return learner.loss(theta, draw(task, pool))

    def step(theta: PyTree, opt_state: PyTree, tasks: PyTree) -> tuple[PyTree, PyTree, Array]:
        grads, metrics = meta_gradient(task_loss, theta, tasks, chunk, pool)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its integer step count with floats
            updates, opt_state = rule.update(grads, opt_state, theta)
        return optax.apply_updates(theta, updates), opt_state, metrics["loss"]

    state = jax.block_until_ready(replicate((theta, rule.init(theta)), count))
    began = time.perf_counter()
    options = dict(compiler_options(first, count))
    traced = jax.jit(step, donate_argnums=(0, 1), compiler_options=options).trace(*state, tasks)
    compiled = traced.lower().compile()
    program = traced.jaxpr.jaxpr
    flops = count_flops(program)
    rates = Rates(compiled, flops)
    times = []
    for _ in range(1 + repeats):
        *state, _ = jax.block_until_ready(compiled(*state, tasks))
        times.append(1000 * (time.perf_counter() - began))
        rates.time()
        began = time.perf_counter()
    if trace is not None:
        with jax.profiler.trace(str(trace)):
            jax.block_until_ready(compiled(*state, tasks))
    step_ms = statistics.median(times[1:])
    shares = rates.shares(step_ms)
    memory = compiled.memory_analysis()
    return {
        "step_ms": step_ms,
        "step_ms_min": min(times[1:]),
        "first_ms": times[0],
        "temp_mib": None if memory is None else memory.temp_size_in_bytes / MIB,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB,
        "device_mib": _device_peak(),
        "flops": flops,
        "bytes": count_bytes(program),
        "matmul_gflops": rates.matmul_gflops(),
        "share": shares["matrix"],
        "operations": rates.operations,
        "traffic": rates.traffic,
        "shares": shares,
        "tasks_per_s": 1000 * count / step_ms,
        "task_chunk": chunk,
        "device": jax.devices()[0].device_kind,
        "devices": jax.local_device_count(),
    }


def _device_peak() -> float | None:
    """MiB that the first device has held at most; None where it does not say, as a CPU does not."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return None if peak is None else peak / MIB


def _made_up(
    key: Array, size: TaskSettings, with_sampling: bool, batches: bool
) -> tuple[PyTree, ClassPool | None, Any]:
    """(A meta-batch, or the keys to draw it with; the pool to draw from; (one of them, pool) -> Episode)."""
    if not with_sampling:
        return (_batches if batches else _tasks)(key, size), None, lambda task, pool: task
    each, classes = max(20, size.shots + size.queries), size.classes if batches else max(100, size.ways)
    assert classes is not None  # which the command gives
    images = np.random.default_rng(0).integers(0, 256, (classes * each, *(size.image_shape or ())), np.uint8)
    pool = ClassPool.from_arrays(images, np.repeat(np.arange(classes), each))
    if batches:
        return jax.random.split(key, size.tasks), pool, partial(sample_batch, size=size.batch)
    sample = partial(sample_episode, ways=size.ways, shots=size.shots, queries=size.queries)
    return jax.random.split(key, size.tasks), pool, sample


def _tasks(key: Array, size: TaskSettings) -> Episode:
    """A meta-batch with a leading [tasks] axis."""
    ways, tasks, shape = size.ways, size.tasks, size.image_shape or ()

    def part(key: Array, each: int) -> tuple[Array, Array]:
        labels = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), each)
        return jax.random.normal(key, (tasks, ways * each, *shape), jnp.float32), jnp.tile(labels, (tasks, 1))

    support, query = jax.random.split(key)
    classes = jnp.tile(jnp.arange(ways, dtype=jnp.int32), (tasks, 1))
    return Episode(*part(support, size.shots), *part(query, size.queries), classes)


def _batches(key: Array, size: TaskSettings) -> Episode:
    """Batches of all classes, as pre-training draws them, with a leading [tasks] axis."""
    images, classes = jax.random.split(key)
    x = jax.random.normal(images, (size.tasks, size.batch, *(size.image_shape or ())), jnp.float32)
    y = jax.random.randint(classes, (size.tasks, size.batch), 0, size.classes or 1)
    return Episode(x[:, :1], y[:, :1], x, y)
