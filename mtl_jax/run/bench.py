"""bench: the time and memory of one compiled meta-step on made-up episodes."""

import resource
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.run.parallel import auto_chunk, meta_gradient
from mtl_jax.run.setup import build_learner
from mtl_jax.types import Array, Episode, PyTree

MIB = 2**20


def bench(config: Mapping[str, Any], repeats: int = 7) -> dict[str, Any]:
    """Time meta-steps of Adam on a fixed meta-batch with x ~ N(0, 1).

    Args:
        config: learner, image_shape, ways, shots, queries, tasks, task_chunk, seed and the network's settings.
        repeats: timed steps, after a first one that is not among them.

    Returns:
        step_ms (median), step_ms_min, first_ms (compilation, or its cache, and the first step), temp_mib (the compiled
        step's own buffers), rss_mib (the process's peak), flops (of matrix products and convolutions in a step),
        tasks_per_s, task_chunk, and device.

    Raises:
        ValueError: repeats below 1, or settings that make no learner.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    learner, rule, key = build_learner(config), optax.adam(1e-3), jax.random.key(config["seed"])
    jax.eval_shape(learner.init, key, jax.ShapeDtypeStruct((1, *config["image_shape"]), "float32"))  # refuse early
    tasks = _tasks(key, config)
    first = jax.tree.map(lambda a: a[0], tasks)
    chunk = config["task_chunk"] or auto_chunk(first, config["tasks"])
    theta = learner.init(key, first.support_x)

    def step(theta: PyTree, opt_state: PyTree, tasks: Episode) -> tuple[PyTree, PyTree, Array]:
        grads, metrics = meta_gradient(learner.loss, theta, tasks, chunk)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its integer step count with floats
            updates, opt_state = rule.update(grads, opt_state, theta)
        return optax.apply_updates(theta, updates), opt_state, metrics["loss"]

    state = jax.block_until_ready((theta, rule.init(theta)))
    began = time.perf_counter()
    traced = jax.jit(step, donate_argnums=(0, 1)).trace(*state, tasks)
    compiled = traced.lower().compile()
    times = []
    for _ in range(1 + repeats):
        *state, _ = jax.block_until_ready(compiled(*state, tasks))
        times.append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
    step_ms = statistics.median(times[1:])
    memory = compiled.memory_analysis()
    return {
        "step_ms": step_ms,
        "step_ms_min": min(times[1:]),
        "first_ms": times[0],
        "temp_mib": None if memory is None else memory.temp_size_in_bytes / MIB,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB,
        "flops": count_flops(traced.jaxpr.jaxpr),
        "tasks_per_s": 1000 * config["tasks"] / step_ms,
        "task_chunk": chunk,
        "device": jax.devices()[0].device_kind,
    }


def count_flops(jaxpr: Any) -> int:
    """Floating-point operations of the matrix products and convolutions of a jaxpr, loops of known length unrolled.

    XLA's own cost analysis counts a loop's body once, however often it runs.
    """
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            depth = 1
            for axis in contracted:
                depth *= eqn.invars[0].aval.shape[axis]
            total += 2 * eqn.outvars[0].aval.size * depth
        elif eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval
            features = kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * eqn.outvars[0].aval.size * kernel.size // features
        else:
            inner = [getattr(sub, "jaxpr", sub) for v in eqn.params.values() for sub in _as_list(v)]
            counts = [count_flops(sub) for sub in inner if hasattr(sub, "eqns")]
            repeats = eqn.params["length"] if eqn.primitive.name == "scan" else 1
            total += repeats * (max(counts, default=0) if eqn.primitive.name == "cond" else sum(counts))
    return total


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _tasks(key: Array, config: Mapping[str, Any]) -> Episode:
    """A meta-batch with a leading [tasks] axis."""
    ways, tasks, shape = config["ways"], config["tasks"], tuple(config["image_shape"])

    def part(key: Array, each: int) -> tuple[Array, Array]:
        labels = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), each)
        return jax.random.normal(key, (tasks, ways * each, *shape), jnp.float32), jnp.tile(labels, (tasks, 1))

    support, query = jax.random.split(key)
    classes = jnp.tile(jnp.arange(ways, dtype=jnp.int32), (tasks, 1))
    return Episode(*part(support, config["shots"]), *part(query, config["queries"]), classes)
