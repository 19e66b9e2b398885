"""evaluate: adapt to many test episodes and say how well that went, with an interval."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mtl_jax.data.episodes import check_request, sample_episode
from mtl_jax.learners.objective import objective
from mtl_jax.run.metrics import ci95
from mtl_jax.run.parallel import auto_chunk, in_chunks, over_devices
from mtl_jax.types import Array, Learner, PyTree, Sampler


class Evaluation(NamedTuple):
    """Scores of test episodes: query accuracies as fractions, or mean squared errors for regression.

    Attributes:
        per_episode: [episodes] float32.
        metric: "accuracy" or "mse".
    """

    per_episode: np.ndarray
    metric: str

    @property
    def mean(self) -> float:
        """Mean over episodes."""
        return float(np.mean(self.per_episode, dtype=np.float64))

    @property
    def ci95(self) -> float:
        """Half-width of the mean's 95 % interval, 1.96 std(ddof=1) / sqrt(episodes)."""
        return ci95(self.per_episode)

    @property
    def accuracy(self) -> float:
        """Mean accuracy as a fraction; ValueError for regression."""
        if self.metric != "accuracy":
            raise ValueError(f"these episodes were scored by {self.metric}, not accuracy: read .mean")
        return self.mean


def evaluate(
    learner: Learner,
    theta: PyTree,
    pool: Any,
    key: Array,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    episodes: int = 600,
    sample: Sampler | None = None,
    task_chunk: int | None = None,
) -> Evaluation:
    """Adapt to each of `episodes` tasks by its support set and score it on its query set.

    Args:
        learner: the method.
        theta: its meta-learned parameters.
        pool: a ClassPool, or whatever `sample` draws from.
        key: a JAX random key; the same key gives the same episodes, whatever the learner.
        ways, shots, queries: the size of each task.
        episodes: how many tasks.
        sample: (key, pool) -> Episode in place of `sample_episode`, for tasks of another kind.
        task_chunk: tasks at a time; chosen by backend and size unless given. It bounds the memory.

    Returns:
        Evaluation with .accuracy, .ci95 and .per_episode [episodes].

    Raises:
        ValueError: fewer than one episode, or tasks that the pool cannot give.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, not {episodes}")
    if sample is None:
        check_request(pool, ways, shots, queries)
        sample = episode_sampler(ways, shots, queries)
    scores = score_episodes(learner, sample, episodes, task_chunk, theta, pool, key)
    ((metric, values),) = scores.items()
    return Evaluation(np.asarray(values), metric)


@cache
def episode_sampler(ways: int, shots: int, queries: int, augment: str = "none") -> Sampler:
    """`sample_episode` with its sizes filled in: one function object a setting, so that jit compiles it once."""
    return partial(sample_episode, ways=ways, shots=shots, queries=queries, augment=augment)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def score_episodes(
    learner: Learner, sample: Sampler, episodes: int, chunk: int | None, theta: PyTree, pool: Any, key: Array
) -> dict[str, Array]:
    """{metric: [episodes]}, compiled; see `evaluate`."""

    def score(key: Array, theta: PyTree, pool: Any) -> dict[str, Array]:
        episode = sample(key, pool)
        phi = learner.adapt(theta, episode.support_x, episode.support_y)
        return objective(learner.predict(theta, phi, episode.query_x), episode.query_y)[1]

    keys = jax.random.split(key, episodes)
    chunk = chunk or auto_chunk(jax.eval_shape(sample, key, pool), episodes)

    def scores(keys: Array, *shared: Any) -> dict[str, Array]:
        return in_chunks(lambda key: score(key, *shared), keys, chunk)

    return over_devices(scores, keys, theta, pool)
