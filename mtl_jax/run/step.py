"""take_steps: any number of meta-steps in one call, with sampling inside; and its compiled forms, for a run or many."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.data.episodes import task_keys
from mtl_jax.learners.objective import query_objective
from mtl_jax.run.parallel import auto_chunk, map_in_chunks, map_over_devices, meta_gradient
from mtl_jax.types import Array, Learner, PyTree, TaskDraw, TaskSource, TrainState


def take_steps(
    learner: Learner | Callable[[Any], Learner],
    source: TaskSource,
    optimizer: optax.GradientTransformation,
    tasks: int,
    chunk: int | None,
    skip: bool,
    state: TrainState,
    pool: PyTree,
    count: Array,
) -> tuple[TrainState, dict[str, Array], Array]:
    """Take `count` meta-steps, or fewer if one is not finite; one program, whatever the count.

    Step k draws its tasks from fold_in(state.key, k), each chunk of tasks just before it is used, so that memory
    does not grow with the meta-batch. A while loop, not a scan: its length is a value, so that one program serves
    every count, and it ends at the first step that is not finite, with the state before it.

    Args:
        learner, source, optimizer: functions, static; the learner may be a function of the step.
        tasks: tasks per step, static.
        chunk: tasks at a time, static; `auto_chunk` unless given.
        skip: leave out a step that is not finite and go on with the next, static; the sums then have "skipped".
        state: where to go on from; the compiled form gives its memory to the new one.
        pool: what the source draws from; of a source with a feed, what that gave for this step, and `count` is 1.
        count: [] int32, how many steps.

    Returns:
        (state, sums over the steps of every metric with "loss" and "grad_norm", [] bool: all steps were finite).
    """

    def at(step: Array) -> Learner:
        return learner if isinstance(learner, Learner) else learner(step)

    # A task is drawn from its key, and from its share of the feed where there is one.
    shares, shared = (None, pool) if source.feed is None else (pool, None)

    def one_size(draw: TaskDraw, state: TrainState) -> tuple[PyTree, dict[str, Array], PyTree]:
        """(meta-gradient, mean metrics, the source's next state) of a step whose tasks `draw` gives."""

        def task_of(item: PyTree, memory: PyTree, pool: PyTree) -> Any:
            key, share = item
            return draw(key, memory, pool if source.feed is None else share)

        def task_loss(theta: PyTree, item: PyTree, pool: PyTree, step: Array, memory: PyTree) -> Any:
            return at(step).loss(theta, task_of(item, memory, pool))

        def outcome(item: PyTree, theta: PyTree, pool: PyTree, step: Array, memory: PyTree) -> Any:
            task, now = task_of(item, memory, pool), at(step)
            phi = now.adapt(theta, task.support_x, task.support_y)
            outputs = now.predict(theta, phi, task.query_x)
            seen = {"outputs": outputs, **query_objective(outputs, task, spare=True)[1]}
            return task._replace(support_x=None, query_x=None), seen  # inputs of all tasks at once would not fit

        items = (task_keys(state.key, state.step, tasks), shares)
        besides = (shared, state.step, state.tasks)
        first = jax.tree.map(lambda a: a[0], items)
        width = chunk or auto_chunk(jax.eval_shape(task_of, first, state.tasks, shared), tasks)
        grads, metrics = meta_gradient(task_loss, state.theta, items, width, *besides)
        memory = state.tasks
        if source.update is not None:

            def outcomes(items: PyTree, *besides: PyTree) -> Any:
                return map_in_chunks(lambda item: outcome(item, *besides), items, min(width, tasks))

            memory = source.update(memory, *map_over_devices(outcomes, items, state.theta, *besides))
        return grads, metrics, memory

    @partial(jax.jit, inline=True)  # traced once, for its shapes and in the loop
    def step(state: TrainState) -> tuple[TrainState, dict[str, Array]]:
        sizes = [partial(one_size, draw) for draw in source.draws]
        if len(sizes) == 1:
            grads, metrics, memory = sizes[0](state)
        else:
            # The tasks' keys are fold_in(step's key, 0 ... tasks - 1): the next one is nobody else's.
            key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), tasks)
            which = jax.random.randint(key, (), 0, len(sizes))
            grads, metrics, memory = jax.lax.switch(which, sizes, state)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its integer step count with floats
            updates, opt_state = optimizer.update(grads, state.opt_state, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        new = TrainState(theta, opt_state, state.step + 1, state.key, memory)
        return new, metrics | {"grad_norm": optax.tree.norm(grads)}

    def body(carry: Any) -> Any:
        state, sums, done, _ = carry
        new, metrics = step(state)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
        keep = partial(jax.tree.map, lambda a, b: jnp.where(finite, a, b))
        kept = keep(new._replace(key=state.step), state._replace(key=state.step))._replace(key=state.key)
        if skip:
            kept, metrics = kept._replace(step=new.step), metrics | {"skipped": jnp.float32(0)}
            left_out = sums | {"skipped": sums["skipped"] + 1}
            return kept, keep(jax.tree.map(jnp.add, sums, metrics), left_out), done + 1, jnp.bool_(True)
        return kept, keep(jax.tree.map(jnp.add, sums, metrics), sums), done + 1, finite

    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(step, state)[1])
    zeros |= {"skipped": jnp.float32(0)} if skip else {}
    start = (state, zeros, jnp.int32(0), jnp.bool_(True))
    state, sums, _, finite = jax.lax.while_loop(lambda c: (c[2] < count) & c[3], body, start)
    return state, sums, finite


@lru_cache(maxsize=8)
def compiled_steps(
    learner: Learner | Callable[[Any], Learner],
    source: TaskSource,
    optimizer: optax.GradientTransformation,
    tasks: int,
    chunk: int | None,
    skip: bool = False,
    options: tuple[tuple[str, Any], ...] = (),
) -> Any:
    """`take_steps` with these, compiled with XLA's `options`: (state, pool, count) -> what it gives.

    The same ones are the same program, compiled once. Of others the last few are kept: a program holds a thousand
    memory maps and more, of which Linux gives a process 65,530.
    """
    steps = partial(take_steps, learner, source, optimizer, tasks, chunk, skip)
    return jax.jit(steps, donate_argnums=(0,), compiler_options=dict(options))


@lru_cache(maxsize=4)
def compiled_runs(learner: Any, by_value: bool, *static: Any, options: tuple[tuple[str, Any], ...] = ()) -> Any:
    """`many_steps` with these, compiled: (states, values, pool, count) -> what it gives; the last few are kept."""
    steps = partial(many_steps, partial(learner_of, learner, by_value), *static)
    return jax.jit(steps, donate_argnums=(0,), compiler_options=dict(options))


def many_steps(
    make: Callable[[Any, Any], Learner],
    source: TaskSource,
    optimizer: optax.GradientTransformation,
    tasks: int,
    chunk: int | None,
    at_once: int,
    states: TrainState,
    values: Array,
    pool: PyTree,
    count: Array,
) -> tuple[TrainState, dict[str, Array], Array]:
    """`take_steps` for runs [S], `at_once` of them in a vmap on each device, whose learner make(value, step) gives."""

    def steps_of(run: tuple[TrainState, Array], pool: PyTree, count: Array) -> Any:
        state, value = run
        return take_steps(lambda step: make(value, step), source, optimizer, tasks, chunk, False, state, pool, count)

    def share(runs: PyTree, *shared: PyTree) -> Any:
        return map_in_chunks(lambda run: steps_of(run, *shared), runs, at_once)

    return map_over_devices(share, (states, values), pool, count)


def learner_of(learner: Any, by_value: bool, value: Any, step: Any) -> Learner:
    """The Learner of a run's value, if learners are made by one, at a step."""
    made = learner(value) if by_value else learner
    return made if isinstance(made, Learner) else made(step)
