"""Where training tasks come from: one TaskSource per kind of task."""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import jax

from mtl_jax.data.batches import sample_batch
from mtl_jax.data.episodes import sample_episode
from mtl_jax.data.hard import FailedClasses, empty, sample_hard_episode, turn, worst_class
from mtl_jax.data.host import host_batches
from mtl_jax.data.regression import RegressionPool, sample_regression
from mtl_jax.data.sinusoid import sample_sinusoid
from mtl_jax.types import Array, Episode, PyTree, TaskSource

# Each factory is cached: the same settings give the same functions, so that a step compiled with them is found again.


def no_state(key: Array) -> tuple[()]:
    """The state of a source that remembers nothing."""
    return ()


@cache
def episodes(ways: int = 5, shots: int = 1, queries: int = 15, augment: str = "none") -> TaskSource:
    """`sample_episode`'s tasks, from a ClassPool on the device.

    Args:
        ways, shots, queries, augment: as in `sample_episode`.

    Returns:
        TaskSource.
    """
    return sampled(partial(sample_episode, ways=ways, shots=shots, queries=queries, augment=augment))


def episodes_of_sizes(sizes: Sequence[tuple[int, int, int]], augment: str = "none") -> TaskSource:
    """`sample_episode`'s tasks of several sizes, one size drawn per step, all in one compiled program.

    Args:
        sizes: (ways, shots, queries) of each; every one is as likely.
        augment: as in `sample_episode`.

    Returns:
        TaskSource. The learner must solve tasks of any number of ways, unless these are all the same.

    Raises:
        ValueError: there is no size, or one is not three numbers.

    Reference: Triantafillou et al. 2019, arXiv 1903.03096, for training on episodes of varied ways and shots.
    """
    kinds = [tuple(size) for size in sizes]
    if not kinds or any(len(size) != 3 for size in kinds):
        raise ValueError(f"sizes must be (ways, shots, queries) each, at least one of them, not {list(sizes)}")
    return _episodes_of_sizes(tuple(kinds), augment)


@cache
def _episodes_of_sizes(sizes: tuple[tuple[int, int, int], ...], augment: str) -> TaskSource:
    draws = tuple(episodes(*size, augment).draws[0] for size in sizes)
    return TaskSource(no_state, draws)


@cache
def hard_tasks(
    ways: int = 5, shots: int = 1, queries: int = 15, augment: str = "none", tasks: int = 16, every: int | None = None
) -> TaskSource:
    """Tasks of random classes, and after every few steps of them one step of tasks of the classes that they failed on.

    After each random step, the class of each of its tasks with the lowest query accuracy is kept; a hard step draws
    all of its tasks from the classes so kept, with new images, and forgets them.

    Args:
        ways, shots, queries, augment: as in `sample_episode`.
        tasks: tasks per step.
        every: random steps before a hard one; unless given, as many as keep at least `ways` classes.

    Returns:
        TaskSource, whose state is FailedClasses with room for tasks * every classes.

    Raises:
        ValueError: tasks or every below 1.

    Reference: Sun, Liu, Chua and Schiele 2019, arXiv 1812.02391, section 4.3 and algorithm 2.
    """
    every = -(-ways // max(tasks, 1)) if every is None else every
    if tasks < 1 or every < 1:
        raise ValueError(f"hard tasks need tasks and every of at least 1, not {tasks} and {every}")
    size = (ways, shots, queries, augment)

    def draw(key: Array, failed: FailedClasses, pool: PyTree) -> Episode:
        hard = partial(sample_hard_episode, key, pool, failed, *size)
        return jax.lax.cond(failed.steps == every, hard, partial(sample_episode, key, pool, *size))

    def update(failed: FailedClasses, tasks: Episode, outcome: dict[str, Array]) -> FailedClasses:
        assert tasks.classes is not None  # a pool's tasks have classes
        return turn(failed, jax.vmap(worst_class)(tasks.classes, outcome["outputs"], tasks.query_y), every)

    return TaskSource(lambda key: empty(tasks * every), draw, update)


@cache
def class_batches(size: int = 64, augment: str = "none") -> TaskSource:
    """`sample_batch`'s images of all classes, for pre-training.

    Args:
        size, augment: as in `sample_batch`.

    Returns:
        TaskSource, each of whose tasks is a batch.
    """
    return sampled(partial(sample_batch, size=size, augment=augment))


@cache
def sinusoids(shots: int = 10, queries: int = 10) -> TaskSource:
    """`sample_sinusoid`'s tasks, from a SinusoidPool.

    Args:
        shots, queries: as in `sample_sinusoid`.

    Returns:
        TaskSource.
    """
    return sampled(partial(sample_sinusoid, shots=shots, queries=queries))


@cache
def regressions(shots: int = 10, queries: int = 10) -> TaskSource:
    """`sample_regression`'s tasks, from a RegressionPool.

    Args:
        shots, queries: as in `sample_regression`.

    Returns:
        TaskSource.
    """
    return sampled(partial(sample_regression, shots=shots, queries=queries))


@cache
def host_episodes(ways: int = 5, shots: int = 1, queries: int = 15, augment: str = "none") -> TaskSource:
    """`episodes` from a ClassPool on the host: the same tasks, read there by threads and ahead of time.

    Args:
        ways, shots, queries, augment: as in `sample_episode`.

    Returns:
        TaskSource with a feed, `host_batches`.
    """

    def feed(key: Array, pool: Any, tasks: int, start: int, stop: int) -> Iterator[PyTree]:
        return host_batches(key, pool, ways, shots, queries, augment, tasks, start, stop)

    return TaskSource(no_state, lambda key, state, task: task, feed=feed)


def of_pool(pool: Any, ways: int, shots: int, queries: int, augment: str = "none") -> TaskSource:
    """`episodes`, `host_episodes` of a pool whose inputs stay on the host, or `regressions` of a RegressionPool."""
    if isinstance(pool, RegressionPool):
        return regressions(shots, queries)
    kind = host_episodes if getattr(pool, "on_host", False) else episodes
    return kind(ways, shots, queries, augment)


def sampled(sample: Any) -> TaskSource:
    """The source of tasks that a pure function (key, pool) -> Episode draws."""
    return TaskSource(no_state, lambda key, state, pool: sample(key, pool))
