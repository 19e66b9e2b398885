"""Scores of a network by several protocols (whose moments, how many queries), on the same episodes' support sets."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import ClassPool, Learner, evaluate
from mtl_jax.data import sources
from mtl_jax.learners.maml import Adapted
from mtl_jax.learners.objective import query_objective
from mtl_jax.run.backend import compiler_options
from mtl_jax.run.evaluate import warn_if_not_finite
from mtl_jax.run.parallel import auto_chunk, map_in_chunks
from mtl_jax.types import Array, Episode, PyTree


class Protocol(NamedTuple):
    """Whose moments normalise the queries ("transductive", "support" or "none"), and queries per class."""

    norm: str
    queries: int


def score_protocols(
    learner: Callable[[str], Learner],
    theta: PyTree,
    pool: ClassPool,
    protocols: Sequence[Protocol],
    *,
    ways: int,
    shots: int,
    episodes: int,
    augment: str = "none",
    task_chunk: int | None = None,
) -> list[np.ndarray]:
    """The accuracies [episodes] of each protocol, as `evaluate` gives them, with its warning where some are NaN.

    A method with an inner loop adapts once to each episode for all of them: its steps are under the support set's own
    moments whatever the norm, which says what normalises the queries alone. Of several checkpoints together, and of
    methods without an inner loop, each protocol is evaluated by itself.

    Args:
        learner: norm -> Learner, of the method that was trained.
        theta: its meta-learned parameters.
        pool: the classes to test on.
        protocols: norms and numbers of queries.
        ways, shots, episodes: the size and number of the episodes.
        augment: "rotations" for a class per quarter turn of each class.
        task_chunk: episodes at a time; chosen by backend and size unless given.
    """
    key = jax.random.key(1)
    tasks = [sources.of_pool(pool, ways, shots, of.queries, augment) for of in protocols]
    task = jax.eval_shape(tasks[0].draws[0], key, tasks[0].init(key), pool)
    may_share = len(protocols) > 1 and all(of.norm in ("transductive", "support") for of in protocols)
    if not may_share or not _is_inner_loop(learner("support"), theta, task):
        test = partial(evaluate, episodes=episodes, task_chunk=task_chunk)
        return [
            test(learner(of.norm), theta, pool, key, source=source).per_episode
            for of, source in zip(protocols, tasks, strict=True)
        ]
    both = learner("support")  # whose network takes a batch's own moments, as norm "transductive" does, given none

    def score(theta: PyTree, pool: ClassPool, key: Array) -> tuple[Array, Array]:
        drawn = [source.draws[0](key, source.init(key), pool) for source in tasks]
        first = drawn[0]
        phi, scores, same = both.adapt(theta, first.support_x, first.support_y), [], jnp.bool_(True)
        for of, one in zip(protocols, drawn, strict=True):
            own = phi if of.norm == "support" else phi._replace(stats=None)
            outputs = both.predict(theta, own, one.query_x)
            right = query_objective(outputs, one, spare=True)[1]["accuracy"]
            scores.append(jnp.where(jnp.isfinite(outputs).all(), right, jnp.nan))
            same &= (one.support_x == first.support_x).all() & (one.support_y == first.support_y).all()
        return jnp.stack(scores), same

    chunk = task_chunk or auto_chunk(task, episodes)
    run = jax.jit(
        lambda theta, pool, keys: map_in_chunks(lambda key: score(theta, pool, key), keys, chunk),
        compiler_options=dict(compiler_options(task, episodes)),
    )
    scores, same = jax.device_get(run(theta, pool, jax.random.split(key, episodes)))
    if not same.all():
        raise AssertionError("the support sets of the protocols differ")
    for of_protocol in scores.T:
        warn_if_not_finite(of_protocol)
    return list(scores.T)


def _is_inner_loop(learner: Learner, theta: PyTree, task: Episode) -> bool:
    """Whether it adapts to a network with its support set's moments beside it."""
    return isinstance(jax.eval_shape(learner.adapt, theta, task.support_x, task.support_y), Adapted)
