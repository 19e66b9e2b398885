"""train: one loop for every learner, steps compiled many to a call."""

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.data.episodes import check_request
from mtl_jax.data.hard import empty, sample_hard_episode
from mtl_jax.data.host import host_batches
from mtl_jax.run.evaluate import episode_sampler, evaluate, score_episodes
from mtl_jax.run.folder import RunFolder
from mtl_jax.run.optimizer import freeze, meta_optimizer
from mtl_jax.run.pacing import Pace, Window, deferred_interrupt
from mtl_jax.run.parallel import auto_chunk, place
from mtl_jax.run.step import HardSampler, meta_steps
from mtl_jax.types import Array, Learner, PyTree, Sampler, TrainState

FAILED = 128  # classes that the hard tasks are drawn from: the latest to have been a task's worst


class NonFiniteError(ArithmeticError):
    """The loss or the meta-gradient stopped being finite."""


class Trained(NamedTuple):
    """What a run gives.

    Attributes:
        state: the last TrainState.
        theta: of the best validation score where there was validation, else the last.
        score: that score: accuracy, or minus the mean squared error; None without validation.
        history: one dict a logged window: step, loss, accuracy or mse, grad_norm, tasks_per_s, and at validation
            val_accuracy or val_mse with val_ci95.
        seconds: wall time of this call.
        interrupted: Ctrl-C ended it early, with everything saved.
        folder: where it was written, if it was.
    """

    state: TrainState
    theta: PyTree
    score: float | None
    history: list[dict[str, Any]]
    seconds: float
    interrupted: bool
    folder: Path | None


def train(
    learner: Learner | Callable[[Any], Learner],
    pool: Any,
    key: Array,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    tasks: int = 16,
    steps: int = 1000,
    optimizer: optax.GradientTransformation | None = None,
    augment: str = "none",
    sample: Sampler | None = None,
    hard_tasks: bool = False,
    task_chunk: int | None = None,
    val_pool: Any = None,
    val_sample: Sampler | None = None,
    val_every: int = 500,
    val_episodes: int = 200,
    val_size: tuple[int, int, int] | None = None,
    log_every: int = 50,
    out: str | PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    theta: PyTree | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> Trained:
    """Meta-train: theta <- theta + u(grad_theta 1/T sum_i loss(theta, task_i)), `steps` times.

    Args:
        learner: the method; or step [] int32 -> Learner, for one that changes over the run as a schedule does.
        pool: a ClassPool, or whatever `sample` draws from. Of one with its images on the host, `host_batches` draws
            the same tasks, ahead of time.
        key: a JAX random key. Step k draws its tasks from fold_in(key, k).
        ways, shots, queries: the size of each training task.
        tasks: tasks of a meta-batch.
        steps: meta-steps in all; a resumed run does what is left of them.
        optimizer: any optax transformation; `meta_optimizer(1e-3, steps)` unless given. Weights under theta's key
            "frozen" are masked out of it.
        augment: "none", "rotations" or "flip_crop"; see `sample_episode`. Validation uses none.
        sample: (key, pool) -> Episode in place of `sample_episode`, for tasks of another kind.
        hard_tasks: keep each task's worst class, and draw the tasks of every second step from classes so kept (Sun et
            al. 2019, arXiv 1812.02391); needs tasks of a ClassPool.
        task_chunk: tasks at a time; chosen by backend and size unless given. It does not change the result.
        val_pool: validate on it every `val_every` steps, always on the same `val_episodes` episodes.
        val_sample: (key, pool) -> Episode for validation; unless given, episodes of `val_size` = (ways, shots,
            queries); unless that is given, tasks as in training.
        log_every: meta-steps averaged into one row of the history.
        out: a folder for config.json, metrics.jsonl and checkpoints/; nothing is written unless given.
        config: what config.json shall hold.
        resume: go on from `out`'s last checkpoint; without it a folder that holds a run is refused.
        theta: start from these parameters instead of learner.init's.
        on_progress: called with the latest row after every compiled call.

    Returns:
        Trained.

    Raises:
        ValueError: sizes that the pool cannot give, counts below 1, a folder that holds a run (or none to resume).
        NonFiniteError: the loss or gradient is not finite; the state before that step is saved.
    """
    check_counts(tasks=tasks, steps=steps, val_every=val_every, log_every=log_every)
    hard, failed = None, None
    if hard_tasks and sample is not None:
        raise ValueError("hard tasks are drawn from a pool's classes: leave `sample` out, or hard_tasks")
    if hard_tasks:
        hard, failed = hard_sampler(ways, shots, queries, augment), empty(FAILED)
    batches = None
    if sample is None and pool.on_host:
        if hard_tasks:
            raise ValueError("hard tasks are drawn on the device: leave hard_tasks out, or host=True of the pool")
        batches = partial(host_batches, pool=pool, ways=ways, shots=shots, queries=queries, augment=augment)
    sample, val_sample = samplers(pool, (ways, shots, queries), augment, sample, val_pool, val_size, val_sample)
    folder = None if out is None else RunFolder(out, config, resume)

    init_key, run_key, val_key = jax.random.split(key, 3)
    episode = jax.eval_shape(sample, init_key, pool)
    final = learner if isinstance(learner, Learner) else learner(steps)
    if theta is None:
        theta = fresh(final, init_key, episode.support_x)
    rule = freeze(optimizer or meta_optimizer(1e-3, steps), theta)
    state = TrainState(theta, rule.init(theta), jnp.int32(0), run_key, failed)
    best_theta, best_score = None, None
    if folder is not None:
        if resume:
            state, best_theta, best_score = folder.restore(state)
        folder.start()
    state = jax.tree.map(jnp.array, state)  # buffers of our own: each call is given the last one's to overwrite
    state = place(state, tasks)
    step = int(state.step)
    if batches is None:
        pool = place(pool, tasks)
    else:
        sample, stream = None, batches(run_key, tasks=tasks, start=step, stop=steps)

    chunk = task_chunk or auto_chunk(episode, tasks)
    began, history = time.perf_counter(), [] if folder is None else folder.history
    window, pace = Window(), Pace()
    try:
        with deferred_interrupt() as interrupted:
            while step < steps and not interrupted.is_set():
                until = min(steps, *(step - step % every + every for every in (log_every, val_every)))
                count = min(pace.steps, until - step)
                if batches is not None:
                    count, pool = 1, next(stream)
                with pace:
                    call = (learner, sample, rule, tasks, chunk, state, pool, jnp.int32(count))
                    state, sums, finite = meta_steps(*call, hard=hard)
                    reached = int(state.step)
                if not finite:
                    if folder is not None and reached:
                        folder.save(state, None)
                    raise NonFiniteError(
                        f"loss or meta-gradient not finite at step {reached + 1}; step {reached} is kept: "
                        "try a lower --meta-lr or --inner-lr, or a smaller --clip"
                    )
                window.add(count, sums)
                step, score = reached, None
                row = {"step": step, **window.mean(), "tasks_per_s": window.steps_per_second() * tasks}
                at_end, at_val = step == steps, step == steps or step % val_every == 0
                if at_val and val_pool is not None:
                    score, figures = validate(final, state.theta, val_pool, val_key, val_episodes, val_sample)
                    row |= figures
                    if best_score is None or score > best_score:
                        best_theta, best_score = jax.tree.map(jnp.array, state.theta), score
                if at_val or at_end or step % log_every == 0:
                    history.append(row)
                    window = Window()
                    if folder is not None:
                        folder.log(row)
                if folder is not None and at_val:
                    folder.save(state, score)
                if on_progress is not None:
                    on_progress(row)
        if folder is not None and step < steps:
            folder.save(state, None)
    finally:
        if folder is not None:
            folder.close()
    theta = state.theta if best_theta is None else best_theta
    seconds = time.perf_counter() - began
    return Trained(state, theta, best_score, history, seconds, step < steps, None if folder is None else folder.path)


def fresh(learner: Learner, key: Array, x: PyTree) -> PyTree:
    """learner.init(key, zeros shaped as x), compiled as one program: operation by operation, a start takes seconds."""
    return jax.jit(learner.init)(key, jnp.zeros(x.shape, x.dtype))


def forget() -> None:
    """Free the compiled programs of training and evaluation, once their learners are of no more use.

    Each holds a thousand memory maps and more, of which Linux gives a process 65,530: some twenty runs' worth.
    """
    for compiled in (meta_steps, score_episodes):
        compiled.clear_cache()  # type: ignore[attr-defined]


@cache
def hard_sampler(ways: int, shots: int, queries: int, augment: str = "none") -> HardSampler:
    """`sample_hard_episode` with its sizes filled in, as `episode_sampler` does."""
    return partial(sample_hard_episode, ways=ways, shots=shots, queries=queries, augment=augment)


def samplers(
    pool: Any,
    size: tuple[int, int, int],
    augment: str,
    sample: Sampler | None,
    val_pool: Any,
    val_size: tuple[int, int, int] | None,
    val_sample: Sampler | None = None,
) -> tuple[Sampler, Sampler]:
    """What training and validation draw their tasks with, as `train` says; ValueError for what a pool cannot give."""
    if sample is None:
        check_request(pool, *size, augment)
        sample, val_size = episode_sampler(*size, augment), val_size or size
    if val_pool is not None and val_sample is None and val_size is not None:
        check_request(val_pool, *val_size)
        val_sample = episode_sampler(*val_size)
    return sample, val_sample or sample


def check_counts(**counts: int) -> None:
    """Raise ValueError for the first that is below 1."""
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")


def validate(
    learner: Learner, theta: PyTree, pool: Any, key: Array, episodes: int, sample: Sampler
) -> tuple[float, dict[str, float]]:
    """(score, higher is better: an accuracy, or minus an error; what a row of the history says of it)."""
    seen = evaluate(learner, theta, pool, key, episodes=episodes, sample=sample)
    score = seen.mean if seen.metric == "accuracy" else -seen.mean
    return score, {f"val_{seen.metric}": seen.mean, "val_ci95": seen.ci95}
