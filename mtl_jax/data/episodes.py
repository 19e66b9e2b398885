"""sample_episode: few-shot tasks drawn from a ClassPool, as a pure function of a key."""

import jax
import jax.numpy as jnp

from mtl_jax.data.augment import TURNED, augmented_classes, check_augment, turn, vary
from mtl_jax.data.distinct import draw_distinct
from mtl_jax.data.pool import ClassPool
from mtl_jax.data.regression import RegressionPool, check_rows
from mtl_jax.types import Array, Episode


def check_request(pool: ClassPool | RegressionPool, ways: int, shots: int, queries: int, augment: str = "none") -> None:
    """Raise ValueError, which names the pool and its smallest class, unless it can give episodes of this size.

    A RegressionPool's tasks have no ways: they are not looked at.
    """
    if isinstance(pool, RegressionPool):
        return check_rows(pool, shots, queries, augment)
    for name, value in (("ways", ways), ("shots", shots), ("queries", queries)):
        if value < 1:
            why = ": a task is judged on its queries" if name == "queries" else ""
            raise ValueError(f"{name} must be at least 1, not {value}{why}")
    check_augment(pool, augment)
    classes = augmented_classes(pool.classes, augment)
    of = f" ({pool.about})" if pool.about else ""
    if ways > classes:
        raise ValueError(f"{ways} ways from a pool of {classes} classes{of}: ask for at most {classes}")
    if shots + queries > pool.smallest:
        name = f", {pool.names[pool.rarest]!r}," if pool.names else ""
        what = "image" if pool.groups is None else "group"
        most = f"ask for at most {pool.smallest} together" if pool.smallest > 1 else "it needs 2 or more"
        raise ValueError(
            f"{shots} shots + {queries} queries per class, but the smallest class{name} has "
            f"{pool.smallest} {what}{'s' * (pool.smallest > 1)}{of}: {most}, or leave out classes that small"
        )


def sample_episode(
    key: Array, pool: ClassPool, ways: int = 5, shots: int = 1, queries: int = 15, augment: str = "none"
) -> Episode:
    """Draw one task: classes without replacement, and of each class disjoint support and query inputs.

    Support and query hold label 0's inputs first, then label 1's, and so on; which class carries which label is
    itself drawn. Pure: the same key gives the same episode; jit it with `ways`, `shots`, `queries` and `augment`
    static, and vmap it over keys for a meta-batch.

    Args:
        key: a JAX random key.
        pool: what to draw from: images, features or tokens.
        ways: classes in the task, N.
        shots: support inputs per class, K.
        queries: query inputs per class.
        augment: "none"; "rotations": every class in four rotations counts as four classes, for training on
            characters; "rotations_affine": the same, and each image moved, turned, stretched and sheared a little
            (`distort`); "dihedral_affine": so with their mirror images too, eight classes of each; "dihedral_elastic":
            so, and each image bent (`distort_and_bend`); "flip_crop": each image mirrored at random and cropped from a
            4-pixel zero padding, for training on colour images; "flip_crop_colours": so with brightness, contrast and
            saturation changed (`scale_colours`); "rotations_flip_crop": as "flip_crop", and the four rotations of a
            class are classes. All are for images [height, width, 1 or 3], uint8 or float, but the colours' for uint8.

    Returns:
        Episode with support_x [ways * shots, ...], float32 in [0, 1] for uint8 images, else of the pool's dtype and
        values, support_y [ways * shots] int32, query_x and query_y alike with `queries` in place of `shots`, classes
        [ways] int32 (under rotations, class + rotation * pool.classes; those of mirror images are numbered from 4).

    Raises:
        ValueError: the pool has too few classes or inputs for the request, or does not suit `augment` (while tracing).

    Reference: Vinyals et al. 2016, arXiv 1606.04080 (episodes); Santoro et al. 2016, arXiv 1605.06065 (rotations of
    characters); Liu et al. 2020, arXiv 2003.00804 (of colour images).
    """
    check_request(pool, ways, shots, queries, augment)
    drawn = draw_classes(key, pool.classes, ways, augment)
    return episode_from(key, pool, drawn, shots, queries, augment)


def task_keys(key: Array, step: Array, tasks: int) -> Array:
    """The keys [tasks] that a run's step draws its tasks from: split(fold_in(key, step), tasks)."""
    return jax.random.split(jax.random.fold_in(key, step), tasks)


def draw_classes(key: Array, classes: int, ways: int, augment: str) -> Array:
    """`sample_episode`'s classes [ways] int32: which carries label 0, 1 and so on."""
    bound = augmented_classes(classes, augment)
    return draw_distinct(jax.random.split(key, 3)[0], jnp.int32(bound), bound, ways)


def draw_images(key: Array, pool: ClassPool, drawn: Array, each: int) -> Array:
    """Of each class drawn, which inputs: [ways, each] int32, places in pool.x (whose values are not looked at)."""
    base = drawn % pool.classes
    keys = jax.random.split(jax.random.split(key, 3)[1], len(drawn))
    pick = jax.vmap(lambda k, n: draw_distinct(k, n, pool.largest, each))
    if pool.groups is not None:  # a group first, then one of its inputs
        ends = jnp.append(pool.groups.first[1:], len(pool.groups.start))
        group = pool.groups.first[base][:, None] + pick(keys, (ends - pool.groups.first)[base])
        share = jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 1), (each,), jnp.float32))(keys)
        size = pool.groups.size[group]
        return pool.groups.start[group] + jnp.minimum((share * size.astype(share.dtype)).astype(jnp.int32), size - 1)
    which = pick(keys, pool.count[base])
    return pool.start[base][:, None] + which


def episode_from(key: Array, pool: ClassPool, drawn: Array, shots: int, queries: int, augment: str) -> Episode:
    """`sample_episode` of given classes [ways] int32."""
    x = pool.x[draw_images(key, pool, drawn, shots + queries)]
    return episode_of(key, drawn, x, pool.classes, shots, augment)


def episode_of(key: Array, drawn: Array, x: Array, classes: int, shots: int, augment: str) -> Episode:
    """`sample_episode` of given inputs x [ways, shots + queries, ...] of the pool's dtype, of given classes."""
    ways, each = x.shape[:2]
    turns = drawn // classes
    if augment in TURNED:
        x = jax.vmap(turn, (0, 0, None))(x, turns, augment)
    keys = jax.random.split(jax.random.split(key, 3)[2], (ways, each))

    def part(of: slice) -> Array:
        these = x[:, of]
        each_turn = jnp.repeat(turns, these.shape[1])
        return vary(keys[:, of].reshape(-1), these.reshape(-1, *x.shape[2:]), augment, each_turn)

    labels = jnp.arange(ways, dtype=jnp.int32)
    return Episode(
        support_x=part(slice(shots)),
        support_y=jnp.repeat(labels, shots),
        query_x=part(slice(shots, None)),
        query_y=jnp.repeat(labels, each - shots),
        classes=drawn.astype(jnp.int32),
    )
