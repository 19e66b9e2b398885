"""train_seeds: the same training from many keys at once, or with many values of a setting, as one program."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.run.average import averaged
from mtl_jax.run.backend import compiler_options
from mtl_jax.run.loop import Callback, Plan, TrainResult, Validation, initial_theta, result_of, run_loop
from mtl_jax.run.optimizer import freeze
from mtl_jax.run.parallel import auto_chunk, replicate, task_mesh
from mtl_jax.run.progress import shown
from mtl_jax.run.recorder import Recorder
from mtl_jax.run.saved import check_kept
from mtl_jax.run.step import compiled_runs, learner_of
from mtl_jax.run.train import check_counts, choose_source, choose_validation, default_optimizer
from mtl_jax.types import Array, Learner, PyTree, TaskSource, TrainState


def train_seeds(
    learner: Callable[[Any], Any] | Learner,
    pool: Any,
    keys: Array,
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    tasks: int = 16,
    steps: int = 1000,
    optimizer: optax.GradientTransformation | None = None,
    augment: str = "none",
    source: TaskSource | None = None,
    values: Array | None = None,
    average: float | None = None,
    task_chunk: int | None = None,
    val_pool: Any = None,
    val_size: tuple[int, int, int] | None = None,
    val_source: TaskSource | None = None,
    val_learner: Learner | None = None,
    val_every: int = 500,
    val_episodes: int = 200,
    keep_best: int = 1,
    log_every: int = 50,
    out: Sequence[str | PathLike[str]] | None = None,
    configs: Sequence[Mapping[str, Any]] | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
) -> list[TrainResult]:
    """What `train` gives for each of the keys, all trained together: vmap over runs, and devices share them.

    theta_s <- theta_s + u(grad_theta 1/T sum_i loss(theta_s, task_si)), s = 1, ..., S

    A run whose loss is not finite stops where it was, and the others go on: its state.step says where.

    Args:
        learner: as in `train`; or, given `values`, value [] -> any of these: a Learner, or step -> Learner.
        keys: [S] JAX random keys; run s draws what `train` draws with keys[s].
        values: [S] values of one setting, such as inner rates, run s's its s-th.
        out: S folders, each of which becomes a run like any other, which `train` can go on with.
        configs: S settings for their config.json.
        callbacks, progress: as in `train`, given the means over runs.
        pool, ways, shots, queries, tasks, steps, optimizer, augment, source, average, task_chunk, val_pool, val_size,
        val_source, val_learner, val_every, val_episodes, keep_best, log_every: as in `train`; tasks are drawn inside
        the step.

    Returns:
        [S] TrainResult. `tasks_per_s` in the histories are those of all runs together.

    Raises:
        ValueError: as `train`; or other than S values, folders or configs, or tasks that are drawn on the host.
    """
    began, size, runs = time.perf_counter(), (ways, shots, queries), len(keys)
    for name, given in (("values", values), ("out", out), ("configs", configs)):
        if given is not None and len(given) != runs:
            raise ValueError(f"{len(given)} {name} for {runs} keys: give one per key")
    check_counts(tasks=tasks, steps=steps, val_every=val_every, val_episodes=val_episodes, log_every=log_every)
    check_counts(keep_best=keep_best)
    check_kept(keep_best, steps, val_every, val_pool is not None or val_source is not None, out is not None)
    source = choose_source(pool, size, augment, None, False, tasks, source)
    if source.feed is not None or len(source.draws) != 1:
        raise ValueError("runs trained together draw tasks of one size on the device: train each alone")
    recorders = [
        Recorder(None if out is None else out[i], None if configs is None else configs[i], keep_best=keep_best)
        for i in range(runs)
    ]

    by_value = values is not None
    make = partial(learner_of, learner, by_value)
    values = jnp.zeros(runs) if values is None else jnp.asarray(values)
    finals = [make(value, steps) for value in values] if by_value else [make(None, steps)] * runs
    init_keys, run_keys, val_keys = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
    memories = [source.init(key) for key in run_keys]
    episode = jax.eval_shape(source.draws[0], run_keys[0], memories[0], pool)
    thetas = [initial_theta(final, key, episode.support_x) for final, key in zip(finals, init_keys, strict=True)]
    rule = freeze(optimizer or default_optimizer(steps), thetas[0])
    rule = rule if average is None else averaged(rule, average)
    states = [
        TrainState(theta, rule.init(theta), jnp.int32(0), *rest)
        for theta, *rest in zip(thetas, run_keys, memories, strict=True)
    ]
    shared = runs if task_mesh(runs) else tasks
    state = replicate(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), shared)
    pool = replicate(pool, shared)
    try:
        for recorder in recorders:
            recorder.start()
    except BaseException:
        for recorder in recorders:
            recorder.close()
        raise
    at_once, options = max(1, auto_chunk(episode, runs * tasks) // tasks), compiler_options(episode, runs * tasks)

    def advance(state: TrainState, pool: Any, count: Array) -> Any:
        program = compiled_runs(learner, by_value, source, rule, tasks, task_chunk, at_once, options=options)
        state, *seen = program(state, values, pool, count)
        sums, finite = jax.device_get(seen)
        return state, [{name: value[i] for name, value in sums.items()} for i in range(runs)], finite

    validations = None
    if val_pool is not None:
        check = choose_validation(val_pool, size, val_size, source, val_source)
        checkers = finals if val_learner is None else [val_learner] * runs
        validations = [Validation(checkers[i], val_pool, val_keys[i], val_episodes, check) for i in range(runs)]
    plan = Plan(steps, tasks, log_every, val_every)
    try:
        with shown(progress, steps) as bars:
            state, interrupted, stopped = run_loop(
                advance, state, recorders, _run, validations, plan, None, pool, [*callbacks, *bars]
            )
    finally:
        for recorder in recorders:
            recorder.close()
    seconds = time.perf_counter() - began
    return [result_of(each, _run(state, i), seconds, interrupted, stopped) for i, each in enumerate(recorders)]


def _run(tree: PyTree, i: int) -> PyTree:
    """Run i's share of what is stacked."""
    return jax.tree.map(lambda a: a[i], tree)
