"""An average of theta over the steps, kept beside the optimiser's state, which validation and the result then use."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.types import Array, PyTree, TrainState


class AveragedState(NamedTuple):
    """The state of the rule within, the average so far, and the number of steps in it."""

    rule: PyTree
    average: PyTree
    steps: Array


@cache
def averaged(rule: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """The same rule, keeping an exponential average of the parameters that it gives.

    average <- d average + (1 - d) theta, d = min(decay, (1 + n) / (10 + n)) after n steps, which forgets the start

    Args:
        rule: any optax transformation.
        decay: of the average, in (0, 1): 0.999 averages over about 1,000 steps.

    Raises:
        ValueError: decay out of range.

    Reference: Polyak and Juditsky 1992, SIAM J. Control Optim. 30(4); the slow start is that of TensorFlow's
    ExponentialMovingAverage.
    """
    if not 0 < decay < 1:
        raise ValueError(f"average must be above 0 and below 1, not {decay}")

    def init(theta: PyTree) -> AveragedState:
        return AveragedState(rule.init(theta), jax.tree.map(jnp.array, theta), jnp.int32(0))

    def update(grads: PyTree, state: AveragedState, theta: PyTree = None) -> tuple[PyTree, AveragedState]:
        updates, inner = rule.update(grads, state.rule, theta)
        n = state.steps.astype(jnp.float32)
        weight = 1 - jnp.minimum(jnp.float32(decay), (1 + n) / (10 + n))
        now = optax.apply_updates(theta, updates)
        average = jax.tree.map(lambda a, b: a + weight.astype(a.dtype) * (b - a), state.average, now)
        return updates, AveragedState(inner, average, state.steps + 1)

    return optax.GradientTransformation(init, update)


def result_theta(state: TrainState) -> PyTree:
    """The parameters that a state's training is for: their average where one is kept, else theta."""
    return state.opt_state.average if isinstance(state.opt_state, AveragedState) else state.theta
