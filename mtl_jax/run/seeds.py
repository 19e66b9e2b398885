"""train_seeds: the same training from many keys at once, or with many values of a setting, as one program."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax.run.folder import RunFolder
from mtl_jax.run.optimizer import freeze, meta_optimizer
from mtl_jax.run.pacing import Pace, Window, deferred_interrupt
from mtl_jax.run.parallel import auto_chunk, in_chunks, over_devices, place, task_mesh
from mtl_jax.run.step import take_steps
from mtl_jax.run.train import NonFiniteError, Trained, check_counts, fresh, samplers, validate
from mtl_jax.types import Array, Learner, PyTree, Sampler, TrainState


def train_seeds(
    learner: Learner | Callable[[Any], Learner],
    pool: Any,
    keys: Array,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    tasks: int = 16,
    steps: int = 1000,
    optimizer: optax.GradientTransformation | None = None,
    augment: str = "none",
    sample: Sampler | None = None,
    values: Array | None = None,
    task_chunk: int | None = None,
    val_pool: Any = None,
    val_size: tuple[int, int, int] | None = None,
    val_every: int = 500,
    val_episodes: int = 200,
    log_every: int = 50,
    out: Sequence[str | PathLike[str]] | None = None,
    configs: Sequence[Mapping[str, Any]] | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> list[Trained]:
    """What `train` gives for each of the keys, all trained together: vmap over runs, and devices share them.

    theta_s <- theta_s + u(grad_theta 1/T sum_i loss(theta_s, task_si)), s = 1, ..., S

    A run whose loss is not finite stops where it was, and the others go on: its state.step says where.

    Args:
        learner: as in `train`; or, given `values`, value [] -> Learner.
        keys: [S] JAX random keys; run s draws what `train` draws with keys[s].
        values: [S] values of one setting, such as inner rates, run s's its s-th.
        out: S folders, each of which becomes a run like any other, which `train` can go on with.
        configs: S settings for their config.json.
        val_size: (ways, shots, queries) of validation episodes; those of training unless given.
        pool, ways, shots, queries, tasks, steps, optimizer, augment, sample, task_chunk, val_pool, val_every,
        val_episodes, log_every, on_progress: as in `train`; on_progress is given the means over runs.

    Returns:
        [S] Trained. `tasks_per_s` in the histories are those of all runs together.

    Raises:
        ValueError: as `train`; or other than S values, folders or configs.
    """
    size, runs = (ways, shots, queries), len(keys)
    for name, given in (("values", values), ("out", out), ("configs", configs)):
        if given is not None and len(given) != runs:
            raise ValueError(f"{len(given)} {name} for {runs} keys: give one a key")
    check_counts(tasks=tasks, steps=steps, val_every=val_every, log_every=log_every)
    sample, val_sample = samplers(pool, size, augment, sample, val_pool, val_size)
    folders = [RunFolder(folder, None if configs is None else configs[i]) for i, folder in enumerate(out or ())]

    make = partial(_learner, learner, values is not None)
    values = jnp.zeros(runs) if values is None else jnp.asarray(values)
    finals = [make(value, steps) for value in values] if make.args[1] else [make(None, steps)] * runs
    init_keys, run_keys, val_keys = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
    episode = jax.eval_shape(sample, init_keys[0], pool)
    thetas = [fresh(final, key, episode.support_x) for final, key in zip(finals, init_keys, strict=True)]
    rule = freeze(optimizer or meta_optimizer(1e-3, steps), thetas[0])
    states = [TrainState(t, rule.init(t), jnp.int32(0), k) for t, k in zip(thetas, run_keys, strict=True)]
    shared = runs if task_mesh(runs) else tasks
    state, pool = place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), shared), place(pool, shared)
    for folder in folders:
        folder.start()

    chunk, at_once = task_chunk or auto_chunk(episode, tasks), max(1, auto_chunk(episode, runs * tasks) // tasks)
    step, began, pace, windows = 0, time.perf_counter(), Pace(), [Window() for _ in range(runs)]
    history: list[list[dict[str, Any]]] = [[] for _ in range(runs)]
    best: list[tuple[PyTree, float | None]] = [(None, None)] * runs
    alive = list(range(runs))
    try:
        with deferred_interrupt() as interrupted:
            while step < steps and not interrupted.is_set():
                until = min(steps, *(step - step % every + every for every in (log_every, val_every)))
                count = min(pace.steps, until - step)
                with pace:
                    call = (make, sample, rule, tasks, chunk, at_once, state, values, pool, jnp.int32(count))
                    state, *seen = many_steps(*call)
                    sums, finite = jax.device_get(seen)
                for i in alive:
                    if folders and state.step[i] and not finite[i]:
                        folders[i].save(_run(state, i), None)
                alive = [i for i in alive if finite[i]]
                if not alive:
                    raise NonFiniteError(f"no run is finite after step {int(state.step.max())}: try lower rates")
                step += count
                at_val, rows = step == steps or step % val_every == 0, []
                for i in alive:
                    windows[i].add(count, {name: value[i] for name, value in sums.items()})
                    pace_of_all = windows[i].steps_per_second() * tasks * len(alive)
                    row, score = {"step": step, **windows[i].mean(), "tasks_per_s": pace_of_all}, None
                    if at_val and val_pool is not None:
                        theta = _run(state.theta, i)
                        score, figures = validate(finals[i], theta, val_pool, val_keys[i], val_episodes, val_sample)
                        row |= figures
                        best[i] = max(best[i], (theta, score), key=lambda b: -math.inf if b[1] is None else b[1])
                    rows.append(row)
                    if at_val or step % log_every == 0:
                        history[i].append(row)
                        windows[i] = Window()
                        if folders:
                            folders[i].log(row)
                    if folders and at_val:
                        folders[i].save(_run(state, i), score)
                if on_progress is not None:
                    on_progress(
                        {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {"step": step}
                    )
        for i in alive if folders and step < steps else ():
            folders[i].save(_run(state, i), None)
    finally:
        for folder in folders:
            folder.close()
    about = (time.perf_counter() - began, step < steps)
    results = []
    for i, (theta, score) in enumerate(best):
        now = _run(state, i)
        theta = now.theta if theta is None else theta
        results.append(Trained(now, theta, score, history[i], *about, folders[i].path if folders else None))
    return results


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5), donate_argnums=(6,))
def many_steps(
    make: Callable[[Array, Array], Learner],
    sample: Sampler,
    optimizer: optax.GradientTransformation,
    tasks: int,
    chunk: int,
    at_once: int,
    states: TrainState,
    values: Array,
    pool: PyTree,
    count: Array,
) -> tuple[TrainState, dict[str, Array], Array]:
    """`take_steps` for runs [S], `at_once` of them in a vmap on each device, whose learner make(value, step) gives."""

    def steps_of(run: tuple[TrainState, Array], pool: PyTree, count: Array) -> Any:
        state, value = run
        return take_steps(lambda step: make(value, step), sample, optimizer, tasks, chunk, state, pool, count)

    def share(runs: PyTree, *shared: PyTree) -> Any:
        return in_chunks(lambda run: steps_of(run, *shared), runs, at_once)

    return over_devices(share, (states, values), pool, count)


def _learner(learner: Learner | Callable[[Any], Learner], by_value: bool, value: Any, step: Any) -> Learner:
    if isinstance(learner, Learner):
        return learner
    return learner(value if by_value else step)


def _run(tree: PyTree, i: int) -> PyTree:
    """Run i's share of what is stacked."""
    return jax.tree.map(lambda a: a[i], tree)
