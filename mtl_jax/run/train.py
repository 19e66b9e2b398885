"""train: the front door of the training loop, for every learner and every source of tasks."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.data import sources
from mtl_jax.data.episodes import check_request
from mtl_jax.data.regression import RegressionPool
from mtl_jax.run.average import averaged
from mtl_jax.run.backend import compiler_options
from mtl_jax.run.evaluate import compiled_scores
from mtl_jax.run.loop import Callback, Plan, TrainResult, Validation, initial_theta, result_of, run_loop
from mtl_jax.run.memory import Program
from mtl_jax.run.optimizer import freeze, meta_optimizer
from mtl_jax.run.parallel import replicate, spread
from mtl_jax.run.processes import wait_for_all
from mtl_jax.run.progress import shown
from mtl_jax.run.recorder import Recorder
from mtl_jax.run.saved import check_kept
from mtl_jax.run.step import compiled_runs, compiled_steps
from mtl_jax.types import Array, Learner, PyTree, TaskSource, TrainState

log = logging.getLogger(__name__)


def train(
    learner: Learner | Callable[[Any], Learner],
    pool: Any,
    key: Array,
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    tasks: int = 16,
    steps: int = 1000,
    optimizer: optax.GradientTransformation | None = None,
    augment: str = "none",
    sizes: Sequence[tuple[int, int, int]] | None = None,
    hard_tasks: bool = False,
    source: TaskSource | None = None,
    task_chunk: int | None = None,
    val_pool: Any = None,
    val_size: tuple[int, int, int] | None = None,
    val_source: TaskSource | None = None,
    val_learner: Learner | None = None,
    val_every: int = 500,
    val_episodes: int = 200,
    keep_best: int = 1,
    log_every: int = 50,
    out: str | PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    theta: PyTree | None = None,
    average: float | None = None,
    on_nonfinite: str = "stop",
    callbacks: Sequence[Callback] = (),
    progress: bool | None = None,
) -> TrainResult:
    """Meta-train: theta <- theta + u(grad_theta 1/T sum_i loss(theta, task_i)), `steps` times.

    Args:
        learner: the method; or step [] int32 -> Learner, for one that changes over the run as a schedule does.
        pool: a ClassPool, on the device or the host; or a RegressionPool, whose tasks have `shots` support rows and
            `queries` query rows, and no ways; or whatever `source` draws from.
        key: a JAX random key. Step k draws its tasks from fold_in(key, k).
        ways, shots, queries: the size of each training task.
        tasks: tasks per step.
        steps: meta-steps in all; a resumed run does what is left of them.
        optimizer: any optax transformation; `meta_optimizer(1e-3, steps)` unless given. Weights under theta's key
            "frozen" are masked out of it.
        augment: "none", "rotations", "rotations_affine", "dihedral_affine", "dihedral_elastic", "flip_crop",
            "flip_crop_colours" or "rotations_flip_crop"; see `sample_episode`. Validation uses none.
        sizes: (ways, shots, queries) of several sizes of task, one of them drawn per step, in place of one size.
        hard_tasks: after every few random steps, draw one step's tasks from the classes that those failed on (Sun et
            al. 2019, arXiv 1812.02391).
        source: where tasks come from, in place of the settings above; `mtl_jax.data.sources` has factories, and any
            TaskSource will do.
        task_chunk: tasks at a time; chosen by backend and size unless given. It does not change the result.
        val_pool: validate on it every `val_every` steps, always on the same `val_episodes` tasks.
        val_size: (ways, shots, queries) of validation tasks; those of training unless given.
        val_source: where validation tasks come from, for tasks of another kind.
        val_learner: what validates theta, where validation tasks have other ways than a learner was told; the learner
            of the last step unless given.
        keep_best: of how many best validations `out` keeps the checkpoints, for `learners.ensemble.ensemble`.
        log_every: meta-steps averaged into one row of the history.
        out: a folder for config.json, metrics.jsonl and checkpoints/; nothing is written unless given.
        config: what config.json shall hold; the sizes and counts that are given here unless told otherwise.
        resume: go on from `out`'s last checkpoint, or begin where there is none yet; without it a folder that holds a
            run is refused.
        theta: start from these parameters instead of learner.init's.
        average: decay of an exponential average of theta over the steps, in (0, 1), which is validated, kept and
            returned in place of theta; none unless given.
        on_nonfinite: what to do at a step whose loss or meta-gradient is not finite: "stop" with NonFiniteError, the
            state before it saved, so that resuming takes that very step again; or "skip" it, which rows count.
        callbacks: functions called in turn once per logged row, with the row as a plain dict; one that returns true
            ends the training with everything saved. `mtl_jax.run.callbacks` has some.
        progress: show a bar on standard error (where that is no terminal, a line per validation); unless given, a bar
            where it is a terminal, and else nothing.

    Returns:
        TrainResult.

    Raises:
        ValueError: sizes that the pool cannot give, counts below 1, settings that exclude each other, or a folder that
            holds a run or that another process is writing in.
        NonFiniteError: the loss or gradient is not finite; the state before that step is saved.
    """
    began = time.perf_counter()
    check_counts(tasks=tasks, steps=steps, val_every=val_every, val_episodes=val_episodes, log_every=log_every)
    check_counts(keep_best=keep_best)
    check_kept(keep_best, steps, val_every, val_pool is not None or val_source is not None, out is not None)
    if task_chunk is not None:
        check_counts(task_chunk=task_chunk)
    if on_nonfinite not in ("stop", "skip"):
        raise ValueError(f"on_nonfinite is 'stop' or 'skip', not {on_nonfinite!r}")
    size = (ways, shots, queries)
    asked, source = source, choose_source(pool, size, augment, sizes, hard_tasks, tasks, source)
    if config is None and out is not None and not (Path(out) / "config.json").exists():
        config = {"tasks": tasks, "steps": steps, "val_every": val_every, "val_episodes": val_episodes}
        config |= {"average": average, "on_nonfinite": on_nonfinite}
        if asked is None:
            config |= {"ways": ways, "shots": shots, "queries": queries, "augment": augment, "sizes": sizes}
    recorder = Recorder(out, config, resume, keep_best)

    init_key, run_key, val_key = jax.random.split(key, 3)
    final = learner if isinstance(learner, Learner) else learner(steps)
    memory = source.init(run_key)
    if asked is not None:
        warn_if_constant(source, run_key, memory, pool)
    example = example_of(source, run_key, memory, pool, tasks)
    if theta is None:
        theta = initial_theta(final, init_key, example.support_x)
    rule = freeze(optimizer or default_optimizer(steps), theta)
    rule = rule if average is None else averaged(rule, average)
    state = TrainState(theta, jax.jit(rule.init)(theta), jnp.int32(0), run_key, memory)
    try:
        if resume:
            state = recorder.restore(state)
        recorder.start(int(state.step))
    except BaseException:
        recorder.close()
        raise
    state = jax.tree.map(jnp.array, state)  # buffers of our own: each call is given the last one's to overwrite
    state = replicate(state, tasks)
    feed = None
    if source.feed is None:
        pool = replicate(pool, tasks)
    else:
        feed = (spread(share, tasks) for share in source.feed(run_key, pool, tasks, int(state.step), steps))

    static, options = (learner, source, rule, tasks), compiler_options(example, tasks)
    steps_at = partial(compiled_steps, *static, skip=on_nonfinite == "skip", options=options)
    program = Program(steps_at, task_chunk, tasks)

    def advance(state: TrainState, drawn_from: Any, count: Array) -> Any:
        state, sums, finite = program(state, drawn_from, count)
        return state, [sums], [bool(finite)]

    validations = None
    if val_pool is not None:
        check = choose_validation(val_pool, size, val_size, source, val_source)
        validations = [Validation(val_learner or final, val_pool, val_key, val_episodes, check)]
    plan = Plan(steps, tasks, log_every, val_every)
    try:
        with shown(progress, steps) as bars:
            state, interrupted, stopped = run_loop(
                advance, state, [recorder], lambda s, _: s, validations, plan, feed, pool, [*callbacks, *bars]
            )
    finally:
        recorder.close()
    wait_for_all("the end of a training")
    return result_of(recorder, state, time.perf_counter() - began, interrupted, stopped)


def clear_compiled() -> None:
    """Free the compiled programs of the last few trainings and evaluations at once; older ones are freed already."""
    for programs in (compiled_steps, compiled_runs, compiled_scores):
        programs.cache_clear()


@cache
def default_optimizer(steps: int) -> optax.GradientTransformation:
    """`meta_optimizer(1e-3, steps)`, the same object every time, so that a compiled step is found again."""
    return meta_optimizer(1e-3, steps)


def choose_source(
    pool: Any,
    size: tuple[int, int, int],
    augment: str,
    sizes: Sequence[tuple[int, int, int]] | None,
    hard_tasks: bool,
    tasks: int,
    source: TaskSource | None,
) -> TaskSource:
    """The source that `train`'s settings ask for; ValueError for what a pool cannot give, or what excludes the rest."""
    asked = [name for name, given in (("sizes", sizes), ("hard_tasks", hard_tasks), ("source", source)) if given]
    if len(asked) > 1:
        raise ValueError(f"{' and '.join(asked)} each say where tasks come from: give one of them")
    if source is not None:
        return source
    for each in sizes or [size]:
        check_request(pool, *each, augment)
    if (hard_tasks or sizes) and isinstance(pool, RegressionPool):
        raise ValueError(f"{asked[0]} are for classes, which a RegressionPool has not: leave {asked[0]} out")
    if (hard_tasks or sizes) and pool.on_host:
        raise ValueError(f"{asked[0]} are drawn on the device: leave {asked[0]} out, or host=True of the pool")
    if hard_tasks:
        return sources.hard_tasks(*size, augment, tasks)
    if sizes:
        return sources.episodes_of_sizes(sizes, augment)
    return sources.of_pool(pool, *size, augment)


def choose_validation(
    pool: Any,
    size: tuple[int, int, int],
    val_size: tuple[int, int, int] | None,
    source: TaskSource,
    val_source: TaskSource | None,
) -> TaskSource:
    """What validation draws from `pool`: val_source; else episodes of val_size, or of training's size; else source."""
    if val_source is not None:
        return val_source
    if hasattr(pool, "classes") or isinstance(pool, RegressionPool):
        check_request(pool, *(val_size or size))
        return sources.of_pool(pool, *(val_size or size))
    return source


def example_of(source: TaskSource, key: Array, memory: PyTree, pool: Any, tasks: int) -> Any:
    """A task's shapes and dtypes."""
    if source.feed is None:
        return jax.eval_shape(source.draws[0], key, memory, pool)
    share = jax.tree.map(lambda a: a[0], next(source.feed(key, pool, tasks, 0, 1)))
    return jax.eval_shape(source.draws[0], key, memory, share)


def warn_if_constant(source: TaskSource, key: Array, memory: PyTree, pool: Any) -> None:
    """Say so where two keys give the same task: numpy's randomness is drawn once, when a program is traced."""
    if source.feed is not None:
        return
    draw = jax.jit(source.draws[0])
    one, two = (draw(each, memory, pool) for each in jax.random.split(key))
    same = jax.tree.map(lambda a, b: bool((a == b).all()), one, two)
    if all(jax.tree.leaves(same)):
        log.warning(
            "two draws of the source are the same task, and so will be all: draw with jax.random and the key that "
            "`draw` is given, since numpy's randomness is drawn once, when the program is traced"
        )


def check_counts(**counts: int) -> None:
    """Raise ValueError for the first that is not a whole number of at least 1."""
    for name, value in counts.items():
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(f"{name} must be a whole number, not {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
