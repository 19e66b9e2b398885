"""evaluate: adapt to many test episodes and say how well that went, with an interval."""

import logging
import math
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.data import sources
from mtl_jax.data.episodes import check_request
from mtl_jax.learners.objective import query_objective
from mtl_jax.run.backend import compiler_options
from mtl_jax.run.metrics import ci95
from mtl_jax.run.parallel import auto_chunk, map_in_chunks, map_over_devices, replicate
from mtl_jax.types import Array, Episode, Learner, PyTree, TaskSource

BINS = 15  # of confidence, for the calibration error
MOST_CONFUSED = 1000  # classes, above which their confusion matrix is left out

log = logging.getLogger(__name__)


class Evaluation(NamedTuple):
    """Scores of test episodes: query accuracies as fractions, or mean squared errors for regression.

    Attributes:
        per_episode: [episodes] float32; NaN where an episode's outputs are not finite.
        metric: "accuracy" or "mse".
        not_finite: how many episodes have outputs that are not finite; their mean is NaN, not chance.
        per_class: [classes of the pool] accuracy of each class's queries over all episodes, NaN where it was never
            drawn; None for tasks without classes.
        ece: expected calibration error of the queries' probabilities, in 15 bins of equal width; None for regression.
        nll: mean -log p(true class) of the queries; None for regression.
        confusion: [classes, classes] of the pool, how many queries of the row's class were given to the column's, over
            all episodes; None for tasks without classes, and for pools of over 1,000.
        mae: mean absolute error over all episodes; None for classification.
        r2: 1 - sum of squared errors / sum of squares about each episode's mean of the query targets, both over all
            episodes and outputs; None for classification, NaN where the targets do not vary.
    """

    per_episode: np.ndarray
    metric: str
    not_finite: int = 0
    per_class: np.ndarray | None = None
    ece: float | None = None
    nll: float | None = None
    confusion: np.ndarray | None = None
    mae: float | None = None
    r2: float | None = None

    @property
    def mean(self) -> float:
        """Mean over episodes; NaN if one of them is not finite."""
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
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    episodes: int = 600,
    source: TaskSource | None = None,
    task_chunk: int | None = None,
) -> Evaluation:
    """Adapt to each of `episodes` tasks by its support set and score it on its query set.

    Args:
        learner: the method.
        theta: its meta-learned parameters.
        pool: a ClassPool; or a RegressionPool, whose tasks have no ways; or whatever `source` draws from.
        key: a JAX random key; the same key gives the same episodes, whatever the learner.
        ways, shots, queries: the size of each task.
        episodes: how many tasks.
        source: where tasks come from in place of `ways`, `shots` and `queries`, for tasks of another kind.
        task_chunk: tasks at a time; chosen by backend and size unless given. It bounds the memory.

    Returns:
        Evaluation with .accuracy, .ci95, .per_episode [episodes], .per_class, .ece, .nll and .confusion, or for
        regression .mean (the mean squared error), .ci95, .per_episode, .mae and .r2. Episodes whose outputs are not
        finite are counted and make the mean NaN, which a warning says.

    Raises:
        ValueError: fewer than one episode, tasks that the pool cannot give, or tasks of other ways than the learner's.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, not {episodes}")
    if source is None:
        check_request(pool, ways, shots, queries)
        source = sources.of_pool(pool, ways, shots, queries)
    if len(source.draws) != 1:
        raise ValueError(f"a source of {len(source.draws)} sizes cannot be averaged over: evaluate one size at a time")
    if source.feed is None:
        theta, pool, key = replicate((theta, pool, key), episodes) if jax.process_count() > 1 else (theta, pool, key)
        options = compiler_options(jax.eval_shape(source.draws[0], key, source.init(key), pool), episodes)
        seen = compiled_scores(learner, source, episodes, task_chunk, options)(theta, pool, key)
    else:
        seen = _score_feed(learner, source, episodes, task_chunk, theta, pool, key)
    return _summary(jax.device_get(seen), getattr(pool, "classes", 0))


def score_episodes(
    learner: Learner, source: TaskSource, episodes: int, chunk: int | None, theta: PyTree, pool: Any, key: Array
) -> dict[str, Array]:
    """{figure: [episodes, ...]} as `_score` gives them; see `evaluate`."""
    draw, keys = source.draws[0], jax.random.split(key, episodes)
    memory = source.init(key)
    chunk = chunk or auto_chunk(jax.eval_shape(draw, key, memory, pool), episodes)

    def scores(keys: Array, *shared: Any) -> dict[str, Array]:
        theta, pool, memory = shared
        return map_in_chunks(lambda key: _score(learner, theta, draw(key, memory, pool)), keys, chunk)

    return map_over_devices(scores, keys, theta, pool, memory)


@lru_cache(maxsize=16)
def compiled_scores(
    learner: Learner, source: TaskSource, episodes: int, chunk: int | None, options: tuple[tuple[str, Any], ...] = ()
) -> Any:
    """`score_episodes` with these, compiled with XLA's `options`: (theta, pool, key) -> what it gives.

    The last few are kept.
    """
    scores = partial(score_episodes, learner, source, episodes, chunk)
    return jax.jit(scores, compiler_options=dict(options))


def _score_feed(
    learner: Learner, source: TaskSource, episodes: int, chunk: int | None, theta: PyTree, pool: Any, key: Array
) -> dict[str, Array]:
    """`score_episodes` for tasks that are drawn outside the program, a few at a time."""
    assert source.feed is not None
    size = chunk or 16
    memory, parts = source.init(key), []
    for share in source.feed(key, pool, size, 0, -(-episodes // size)):
        parts.append(_score_batch(learner, source, theta, share, key, memory))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:episodes], *parts)


@partial(jax.jit, static_argnums=(0, 1))
def _score_batch(
    learner: Learner, source: TaskSource, theta: PyTree, share: PyTree, key: Array, memory: PyTree
) -> dict[str, Array]:
    return jax.lax.map(lambda part: _score(learner, theta, source.draws[0](key, memory, part)), share)


def _score(learner: Learner, theta: PyTree, episode: Episode) -> dict[str, Array]:
    """One episode's metric, whether its outputs are finite, and what `_summary` needs of its queries."""
    phi = learner.adapt(theta, episode.support_x, episode.support_y)
    outputs = learner.predict(theta, phi, episode.query_x)
    seen = dict(query_objective(outputs, episode, spare=True)[1])
    if "accuracy" not in seen:
        y = episode.query_y
        squares = jnp.stack((jnp.square(outputs - y).sum(), jnp.square(y - y.mean(0)).sum()))
        return seen | {"finite": jnp.isfinite(outputs).all(), "mae": jnp.abs(outputs - y).mean(), "squares": squares}
    # A class that the support set lacks may have a logit of minus infinity; the greatest must be finite.
    top = outputs.max(-1)
    said = outputs.argmax(-1).astype(episode.query_y.dtype)
    right = (said == episode.query_y).astype(jnp.float32)
    log_p = jax.nn.log_softmax(outputs.astype(jnp.float32), axis=-1)
    sure = jnp.exp(log_p.max(-1))
    place = jnp.clip((sure * BINS).astype(jnp.int32), 0, BINS - 1)
    bins = jnp.zeros((3, BINS), jnp.float32).at[:, place].add(jnp.stack((jnp.ones_like(sure), sure, right)))
    seen |= {"finite": jnp.isfinite(top).all() & ~jnp.isnan(outputs).any(), "bins": bins}
    seen["nll"] = -jnp.take_along_axis(log_p, episode.query_y[:, None], axis=-1).mean()
    if episode.classes is not None:
        member = jax.nn.one_hot(episode.query_y, len(episode.classes), axis=0, dtype=jnp.float32)
        seen |= {"classes": episode.classes, "asked": member.sum(1), "right": member @ right}
        ways = episode.classes.shape[-1]
        seen["pairs"] = episode.classes[jnp.stack((episode.query_y, jnp.minimum(said, ways - 1)))]
    return seen


def warn_if_not_finite(per_episode: np.ndarray) -> int:
    """How many scores [episodes] are NaN, as of episodes whose outputs are not finite; a warning if there are any."""
    bad = int(np.isnan(per_episode).sum())
    if bad:
        log.warning(
            "%d of %d episodes have outputs that are not finite, so that their mean is NaN: "
            "try a lower inner rate, fewer inner steps, or another checkpoint",
            bad,
            len(per_episode),
        )
    return bad


def _summary(seen: dict[str, np.ndarray], classes: int) -> Evaluation:
    metric = "accuracy" if "accuracy" in seen else "mse"
    finite = np.asarray(seen["finite"], bool)
    values = np.where(finite, np.asarray(seen[metric]), np.float32(math.nan))
    bad = warn_if_not_finite(values)
    per_class = ece = nll = confusion = None
    if "bins" in seen and not bad:
        count, sure, right = np.asarray(seen["bins"], np.float64).sum(0)
        ece = float(np.abs(sure - right).sum() / count.sum())
        nll = float(np.mean(seen["nll"], dtype=np.float64))
    if "classes" in seen and classes and not bad:
        sums = np.zeros((2, classes))
        for row, name in enumerate(("right", "asked")):
            np.add.at(sums[row], np.asarray(seen["classes"]).ravel() % classes, np.asarray(seen[name]).ravel())
        per_class = np.divide(sums[0], sums[1], out=np.full(classes, math.nan), where=sums[1] > 0)
        if classes <= MOST_CONFUSED:
            confusion = np.zeros((classes, classes), np.int64)
            np.add.at(confusion, tuple(np.moveaxis(np.asarray(seen["pairs"]) % classes, 1, 0)), 1)
    mae = r2 = None
    if "squares" in seen:
        left, whole = np.asarray(seen["squares"], np.float64).sum(0)
        mae = float(np.mean(seen["mae"], dtype=np.float64))
        r2 = float(1 - left / whole) if whole > 0 else math.nan
    return Evaluation(values, metric, bad, per_class, ece, nll, confusion, mae, r2)
