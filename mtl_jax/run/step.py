"""meta_steps: any number of meta-steps in one compiled call, with sampling inside."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.run.parallel import meta_gradient
from mtl_jax.types import Array, Learner, PyTree, Sampler, TrainState


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnums=(5,))
def meta_steps(
    learner: Learner,
    sample: Sampler,
    optimizer: optax.GradientTransformation,
    tasks: int,
    chunk: int,
    state: TrainState,
    pool: PyTree,
    count: Array,
) -> tuple[TrainState, dict[str, Array], Array]:
    """Take `count` meta-steps, or fewer if one is not finite; compiled once, whatever the count.

    Step k draws its tasks from fold_in(state.key, k), each chunk of tasks just before it is used, so that memory
    does not grow with the meta-batch. A while loop, not a scan: its length is a value, so that one program serves
    every count, and it ends at the first step that is not finite, with the state before it.

    Args:
        learner, sample, optimizer: functions, static.
        tasks: tasks of a meta-batch, static.
        chunk: tasks at a time, static.
        state: donated.
        pool: what `sample` draws from.
        count: [] int32, how many steps.

    Returns:
        (state, sums over the steps of every metric with "loss" and "grad_norm", [] bool: all steps were finite).
    """

    def task_loss(theta: PyTree, key: Array) -> tuple[Array, dict[str, Array]]:
        return learner.loss(theta, sample(key, pool))

    def step(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
        keys = jax.random.split(jax.random.fold_in(state.key, state.step), tasks)
        grads, metrics = meta_gradient(task_loss, state.theta, keys, chunk)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its integer step count with floats
            updates, opt_state = optimizer.update(grads, state.opt_state, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        new = TrainState(theta, opt_state, state.step + 1, state.key)
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
