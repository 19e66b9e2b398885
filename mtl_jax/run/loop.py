"""The one training loop: compiled calls of many steps, and between them validation, rows, checkpoints, callbacks."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax.run.average import result_theta
from mtl_jax.run.backend import run_once_options
from mtl_jax.run.evaluate import evaluate
from mtl_jax.run.pacing import Pace, deferred_interrupt
from mtl_jax.run.processes import agree
from mtl_jax.run.recorder import Recorder
from mtl_jax.types import Array, Learner, PyTree, TaskSource, TrainState

log = logging.getLogger(__name__)

Callback = Callable[[dict[str, Any]], Any]  # row -> true to stop; called once per logged row


class NonFiniteError(ArithmeticError):
    """The loss or the meta-gradient stopped being finite."""


class TrainResult(NamedTuple):
    """What a run gives.

    Attributes:
        state: the last TrainState.
        theta: of the best validation score (the first of equals) where there was validation, else the last; their
            average over steps, where one was kept.
        score: that score: accuracy, or minus the mean squared error; None without validation.
        history: one dict per logged row: step, loss, accuracy or mse, grad_norm, tasks_per_s, and at validation
            val_accuracy or val_mse with val_ci95.
        seconds: wall time of this call.
        interrupted: Ctrl-C ended it early, with everything saved.
        stopped: a callback ended it early, with everything saved.
        folder: where it was written, if it was.
    """

    state: TrainState
    theta: PyTree
    score: float | None
    history: list[dict[str, Any]]
    seconds: float
    interrupted: bool
    stopped: bool
    folder: Path | None


class Plan(NamedTuple):
    """When a run does what, in meta-steps; `tasks` is how many a step has."""

    steps: int
    tasks: int
    log_every: int = 50
    val_every: int = 500


class Validation(NamedTuple):
    """What validation always does: the same `episodes` tasks of `source` from `pool`, drawn from `key`."""

    learner: Learner
    pool: Any
    key: Array
    episodes: int
    source: TaskSource

    def score(self, theta: PyTree) -> tuple[float, dict[str, float]]:
        """(score, higher is better: an accuracy, or minus an error; what a row of the history says of it)."""
        seen = evaluate(self.learner, theta, self.pool, self.key, episodes=self.episodes, source=self.source)
        return seen.mean if seen.metric == "accuracy" else -seen.mean, {
            f"val_{seen.metric}": seen.mean,
            "val_ci95": seen.ci95,
        }


# (states, what the source draws from, steps) -> (states, each run's sums of metrics, each run's "all finite")
Advance = Callable[[PyTree, Any, Any], tuple[PyTree, Sequence[Mapping[str, Any]], Sequence[bool]]]


def run_loop(
    advance: Advance,
    state: PyTree,
    recorders: Sequence[Recorder],
    run_of: Callable[[PyTree, int], TrainState],
    validations: Sequence[Validation] | None,
    plan: Plan,
    feed: Iterator[Any] | None,
    pool: Any,
    callbacks: Sequence[Callback] = (),
) -> tuple[PyTree, bool, bool]:
    """Advance one run, or several together, until `plan.steps`; the runs' recorders keep what they did.

    Args:
        advance: the compiled call.
        state: the states of all runs, all at the same step.
        recorders: one per run, started.
        run_of: (state, i) -> run i's TrainState.
        validations: one per run, or None for no validation.
        plan: the number of steps, and when to log and validate.
        feed: what each step draws from, in turn; None where all draw from `pool`.
        pool: see `feed`.
        callbacks: called in turn once per logged row, with the row of the run, or the runs' mean; one that returns
            true ends the training.

    Returns:
        (state, whether Ctrl-C ended it early, whether a callback did).

    Raises:
        NonFiniteError: no run is finite any more; the states before that step are saved.
    """
    step, pace, interrupted, stopped = int(run_of(state, 0).step), Pace(), False, False
    with deferred_interrupt() as pressed:
        while step < plan.steps:
            until = min(plan.steps, *(step - step % every + every for every in (plan.log_every, plan.val_every)))
            count = min(pace.steps, until - step) if feed is None else 1
            count, (interrupted, stopped) = agree(count, pressed.is_set(), stopped)
            if interrupted or stopped:
                break
            source = pool if feed is None else next(feed)
            with pace:
                state, sums, finite = advance(state, source, np.int32(count))
            _drop_not_finite(state, recorders, run_of, finite)
            step += count
            _drop_overflown(state, recorders, run_of, step)
            at_val = step == plan.steps or step % plan.val_every == 0
            at_log = at_val or step % plan.log_every == 0
            running = [i for i, recorder in enumerate(recorders) if recorder.running]
            for i in running:
                recorders[i].window.add(count, sums[i])
            if not at_log:
                continue
            rows = []
            for i in running:
                recorder, score = recorders[i], None
                speed = recorder.window.steps_per_second() * plan.tasks * len(running)
                row = {"step": step, **recorder.window.mean(), "tasks_per_s": speed}
                _check_skipped(row)
                if at_val and validations is not None:
                    theta = result_theta(run_of(state, i))
                    seen, figures = validations[i].score(theta)
                    row |= figures
                    score = seen if recorder.judge(theta, seen) else None
                recorder.log(row)
                if at_val:
                    recorder.save(run_of(state, i), score)
                rows.append(row)
            mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} | {"step": step}
            for callback in callbacks:  # each is called, whatever another says
                stopped = bool(callback(dict(mean))) or stopped
    if step < plan.steps:
        for i, recorder in enumerate(recorders):
            if recorder.running:
                recorder.save(run_of(state, i))
    return state, interrupted and step < plan.steps, stopped


def _drop_not_finite(
    state: PyTree, recorders: Sequence[Recorder], run_of: Callable[[PyTree, int], TrainState], finite: Sequence[bool]
) -> None:
    """Save the runs that have just stopped being finite where they were; NonFiniteError if none is left."""
    reached = 0
    for i, recorder in enumerate(recorders):
        if recorder.running and not finite[i]:
            last = run_of(state, i)
            reached, recorder.running = int(last.step), False
            if reached:
                recorder.save(last)
            if len(recorders) > 1:
                log.warning("run %d is not finite at step %d and stops there; the others go on", i, reached + 1)
    if not any(recorder.running for recorder in recorders):
        what = "loss or meta-gradient" if len(recorders) == 1 else "no run is finite: loss or meta-gradient"
        raise NonFiniteError(
            f"{what} not finite at step {reached + 1}; step {reached} is kept: "
            "try a lower outer or inner rate, or a smaller clip"
        )


def _check_skipped(row: Mapping[str, Any]) -> None:
    """Say how many steps were left out; NonFiniteError where all of a row's were."""
    if not math.isfinite(row["loss"]):
        raise NonFiniteError(
            f"no step up to {row['step']} since the last row is finite: try a lower outer or inner rate"
        )
    if row.get("skipped"):
        log.warning("%d steps up to step %d were not finite and are left out", row["skipped"], row["step"])


def _drop_overflown(
    state: PyTree, recorders: Sequence[Recorder], run_of: Callable[[PyTree, int], TrainState], step: int
) -> None:
    """End the runs whose theta has overflown, as the last update of a call can do; their last checkpoint stays."""
    for i, recorder in enumerate(recorders):
        if recorder.running and not bool(_bounded()(run_of(state, i).theta)):
            recorder.running = False
            log.warning("theta of run %d is not finite after step %d: its last checkpoint is kept", i, step)
    if not any(recorder.running for recorder in recorders):
        raise NonFiniteError(
            f"theta is not finite after step {step}; the last checkpoint is kept: try a lower outer rate"
        )


@cache
def _bounded() -> Any:
    """theta -> whether its norm is finite. A program of its own: inside the step it would change how that compiles."""
    return jax.jit(lambda theta: jnp.isfinite(optax.tree.norm(theta)), compiler_options=dict(run_once_options()))


def result_of(recorder: Recorder, state: TrainState, seconds: float, interrupted: bool, stopped: bool) -> TrainResult:
    """One run's TrainResult."""
    theta = result_theta(state) if recorder.best_theta is None else recorder.best_theta
    about = (recorder.best_score, recorder.history, seconds, interrupted, stopped, recorder.path)
    return TrainResult(state, theta, *about)


def initial_theta(learner: Learner, key: Array, x: PyTree) -> PyTree:
    """learner.init(key, zeros shaped as x), compiled as one program: operation by operation, a start takes seconds."""
    init = jax.jit(learner.init, compiler_options=dict(run_once_options()))
    return init(key, jnp.zeros(x.shape, x.dtype))
