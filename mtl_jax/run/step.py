"""take_steps, and meta_steps, its compiled form: any number of meta-steps in one call, with sampling inside."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.data.episodes import task_keys
from mtl_jax.data.hard import record, worst_class
from mtl_jax.run.parallel import in_chunks, meta_gradient, over_devices
from mtl_jax.types import Array, Episode, Learner, PyTree, Sampler, TrainState

HardSampler = Callable[[Array, PyTree, PyTree], Episode]


def take_steps(
    learner: Learner | Callable[[Any], Learner],
    sample: Sampler | None,
    optimizer: optax.GradientTransformation,
    tasks: int,
    chunk: int,
    state: TrainState,
    pool: PyTree,
    count: Array,
    hard: HardSampler | None = None,
) -> tuple[TrainState, dict[str, Array], Array]:
    """Take `count` meta-steps, or fewer if one is not finite; one program, whatever the count.

    Step k draws its tasks from fold_in(state.key, k), each chunk of tasks just before it is used, so that memory
    does not grow with the meta-batch. A while loop, not a scan: its length is a value, so that one program serves
    every count, and it ends at the first step that is not finite, with the state before it.

    Args:
        learner, sample, optimizer: functions, static; the learner may be a function of the step. Without `sample`,
            `pool` is a meta-batch of episodes, drawn elsewhere, and `count` is 1.
        tasks: tasks of a meta-batch, static.
        chunk: tasks at a time, static.
        state: where to go on from; `meta_steps` gives its memory to the new one.
        pool: what `sample` draws from.
        count: [] int32, how many steps.
        hard: (key, pool, failed classes) -> Episode, static. Given, each task's worst class is kept in state.failed,
            and every second step draws its tasks from these instead of by `sample`.

    Returns:
        (state, sums over the steps of every metric with "loss" and "grad_norm", [] bool: all steps were finite).
    """

    def at(step: Array) -> Learner:
        return learner if isinstance(learner, Learner) else learner(step)

    @partial(jax.jit, inline=True)  # traced once, for its shapes and in the loop
    def step(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
        def draw(key: Any, pool: PyTree, step: Array, failed: PyTree) -> Episode:
            if sample is None:
                return key  # the task itself
            if hard is None:
                return sample(key, pool)
            return jax.lax.cond(step % 2 == 1, lambda: hard(key, pool, failed), lambda: sample(key, pool))

        def task_loss(theta: PyTree, key: Array, pool: PyTree, step: Array, failed: PyTree) -> Any:
            return at(step).loss(theta, draw(key, pool, step, failed))

        def worst(key: Array, theta: PyTree, pool: PyTree, step: Array, failed: PyTree) -> Array:
            task, now = draw(key, pool, step, failed), at(step)
            assert task.classes is not None  # a pool's tasks have classes
            phi = now.adapt(theta, task.support_x, task.support_y)
            return worst_class(task.classes, now.predict(theta, phi, task.query_x), task.query_y)

        def worst_of(keys: Array, *shared: PyTree) -> Array:
            return in_chunks(lambda key: worst(key, *shared), keys, min(chunk, len(keys)))

        if sample is None:
            keys, shared = pool, (None, state.step, None)
        else:
            keys = task_keys(state.key, state.step, tasks)
            shared = (pool, state.step, state.failed)
        grads, metrics = meta_gradient(task_loss, state.theta, keys, chunk, *shared)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its integer step count with floats
            updates, opt_state = optimizer.update(grads, state.opt_state, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        failed = None if hard is None else record(state.failed, over_devices(worst_of, keys, state.theta, *shared))
        new = TrainState(theta, opt_state, state.step + 1, state.key, failed)
        return new, metrics | {"grad_norm": optax.tree.norm(grads)}

    def body(carry: Any) -> Any:
        state, sums, done, _ = carry
        new, metrics = step(state)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
        keep = partial(jax.tree.map, lambda a, b: jnp.where(finite, a, b))
        state = keep(new._replace(key=state.step), state._replace(key=state.step))._replace(key=state.key)
        return state, keep(jax.tree.map(jnp.add, sums, metrics), sums), done + 1, finite

    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(step, state)[1])
    start = (state, zeros, jnp.int32(0), jnp.bool_(True))
    state, sums, _, finite = jax.lax.while_loop(lambda c: (c[2] < count) & c[3], body, start)
    return state, sums, finite


meta_steps = jax.jit(take_steps, static_argnums=(0, 1, 2, 3, 4), static_argnames="hard", donate_argnums=(5,))
