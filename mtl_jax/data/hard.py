"""Hard tasks: episodes drawn from the classes that earlier tasks failed on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.data.augment import augmented_classes
from mtl_jax.data.episodes import check_request, episode_from
from mtl_jax.data.pool import ClassPool
from mtl_jax.types import Array, Episode


class FailedClasses(NamedTuple):
    """The classes that the tasks of random steps failed on, since the last hard step.

    Attributes:
        classes: [size] int32, -1 where none is recorded yet; a class may stand there more than once.
        recorded: [] int32, how many are.
        steps: [] int32, random steps since the last hard one.
    """

    classes: Array
    recorded: Array
    steps: Array


def empty(size: int) -> FailedClasses:
    """Room for `size` classes."""
    return FailedClasses(jnp.full(size, -1, jnp.int32), jnp.int32(0), jnp.int32(0))


def turn(failed: FailedClasses, worst: Array, every: int) -> FailedClasses:
    """What is kept after a step: after a random one its classes too; after a hard one, nothing.

    Args:
        failed: what was kept before; a step is hard when `every` random ones have gone before it.
        worst: [tasks] int32, the class that each task of the step failed on; its number times `every` is failed's size.
        every: random steps before a hard one.

    Returns:
        FailedClasses.
    """
    where = failed.recorded + jnp.arange(len(worst), dtype=jnp.int32)
    more = FailedClasses(
        failed.classes.at[where].set(worst, mode="drop"), failed.recorded + len(worst), failed.steps + 1
    )
    was_hard = failed.steps == every
    return jax.tree.map(lambda a, b: jnp.where(was_hard, a, b), empty(len(failed.classes)), more)


def worst_class(classes: Array, logits: Array, query_y: Array) -> Array:
    """The class of a task with the lowest accuracy on its queries; of equals, the one with the highest loss.

    A class without queries has shown no mistake: it is the worst only where no class has one, nor any loss.

    Args:
        classes: [ways] int32, the pool's class behind each label.
        logits: [n, ways].
        query_y: [n] int32.

    Returns:
        [] int32, one of `classes`.
    """
    member = jax.nn.one_hot(query_y, len(classes), axis=0, dtype=logits.dtype)
    queries = jnp.maximum(member.sum(1), 1.0)
    mistaken = (logits.argmax(-1).astype(query_y.dtype) != query_y).astype(logits.dtype)
    wrong = (member * mistaken).sum(1) / queries  # counted, then divided: no rounding decides between equals
    loss = (member * optax.softmax_cross_entropy_with_integer_labels(logits, query_y)).sum(1) / queries
    return classes[jnp.lexsort((-loss, -wrong))[0]]


def sample_hard_episode(
    key: Array,
    pool: ClassPool,
    failed: FailedClasses,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    augment: str = "none",
) -> Episode:
    """Draw a task of failed classes, new images of each; pure, as `sample_episode`.

    Args:
        key: a JAX random key.
        pool: the images to draw from.
        failed: the classes to draw from, each as likely however often it stands there; while these are fewer than
            `ways`, other classes of the pool, drawn at random, make up the number.
        ways, shots, queries, augment: as in `sample_episode`.

    Returns:
        Episode as `sample_episode` gives it.

    Raises:
        ValueError: the pool has too few classes or images for the request (while tracing).

    Reference: Sun, Liu, Chua and Schiele 2019, arXiv 1812.02391, section 4.3.
    """
    check_request(pool, ways, shots, queries, augment)
    bound = augmented_classes(pool.classes, augment)
    known = jnp.where(failed.classes < 0, bound, failed.classes)
    preferred = jnp.zeros(bound, jnp.float32).at[known].set(1.0, mode="drop")
    draw_key, order_key = jax.random.split(jax.random.split(key, 3)[0])
    score = preferred + jax.random.uniform(draw_key, (bound,), jnp.float32)
    drawn = jax.random.permutation(order_key, jax.lax.top_k(score, ways)[1])
    return episode_from(key, pool, drawn, shots, queries, augment)
