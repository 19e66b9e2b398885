"""sample_episode: few-shot tasks drawn from a ClassPool, as a pure function of a key."""

import jax
import jax.numpy as jnp

from mtl_jax.data.pool import ClassPool
from mtl_jax.types import Array, Episode

AUGMENTATIONS = ("none", "rotations", "flip_crop")


def check_request(pool: ClassPool, ways: int, shots: int, queries: int, augment: str = "none") -> None:
    """Raise ValueError unless `pool` can give episodes of this size."""
    for name, value, least in (("ways", ways, 1), ("shots", shots, 1), ("queries", queries, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")
    if augment not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {augment!r}: choose one of {', '.join(AUGMENTATIONS)}")
    classes = pool.classes * (4 if augment == "rotations" else 1)
    if ways > classes:
        raise ValueError(f"{ways} ways from a pool of {classes} classes: ask for at most {classes}")
    if shots + queries > pool.smallest:
        raise ValueError(
            f"{shots} shots + {queries} queries a class, but the smallest class has {pool.smallest} images: "
            f"ask for at most {pool.smallest} together"
        )
    if augment == "rotations" and pool.x.shape[1] != pool.x.shape[2]:
        raise ValueError(f"rotations need square images, not {pool.x.shape[1]}x{pool.x.shape[2]}")


def sample_episode(
    key: Array, pool: ClassPool, ways: int = 5, shots: int = 1, queries: int = 15, augment: str = "none"
) -> Episode:
    """Draw one task: classes without replacement, and of each class disjoint support and query images.

    Support and query hold label 0's images first, then label 1's, and so on; which class carries which label is
    itself drawn. Pure: the same key gives the same episode; jit it with `ways`, `shots`, `queries` and `augment`
    static, and vmap it over keys for a meta-batch.

    Args:
        key: a JAX random key.
        pool: the images to draw from.
        ways: classes in the task, N.
        shots: support images a class, K.
        queries: query images a class.
        augment: "none"; "rotations": every class in four rotations counts as four classes, for training on
            characters; "flip_crop": each image mirrored at random and cropped from a 4-pixel zero padding, for
            training on colour images.

    Returns:
        Episode with support_x [ways * shots, height, width, channels] float32 in [0, 1], support_y [ways * shots]
        int32, query_x and query_y alike with `queries` in place of `shots`, classes [ways] int32 (under
        "rotations", class + rotation * pool.classes).

    Raises:
        ValueError: the pool has too few classes or images for the request (while tracing).

    Reference: Vinyals et al. 2016, arXiv 1606.04080 (episodes); Santoro et al. 2016, arXiv 1605.06065 (rotations).
    """
    check_request(pool, ways, shots, queries, augment)
    drawn = draw_classes(key, pool.classes, ways, augment)
    return episode_from(key, pool, drawn, shots, queries, augment)


def task_keys(key: Array, step: Array, tasks: int) -> Array:
    """The keys [tasks] that a run's step draws its tasks from: split(fold_in(key, step), tasks)."""
    return jax.random.split(jax.random.fold_in(key, step), tasks)


def draw_classes(key: Array, classes: int, ways: int, augment: str) -> Array:
    """`sample_episode`'s classes [ways] int32: which carries label 0, 1 and so on."""
    bound = classes * (4 if augment == "rotations" else 1)
    return _draw(jax.random.split(key, 3)[0], jnp.int32(bound), bound, ways)


def draw_images(key: Array, pool: ClassPool, drawn: Array, each: int) -> Array:
    """Of each class drawn, which images: [ways, each] int32, places in pool.x (whose values are not looked at)."""
    base = drawn % pool.classes
    pick = jax.vmap(lambda k, n: _draw(k, n, pool.largest, each))
    which = pick(jax.random.split(jax.random.split(key, 3)[1], len(drawn)), pool.count[base])
    return pool.start[base][:, None] + which


def episode_from(key: Array, pool: ClassPool, drawn: Array, shots: int, queries: int, augment: str) -> Episode:
    """`sample_episode` of given classes [ways] int32."""
    x = pool.x[draw_images(key, pool, drawn, shots + queries)]
    return episode_of(key, drawn, x, pool.classes, shots, augment)


def episode_of(key: Array, drawn: Array, x: Array, classes: int, shots: int, augment: str) -> Episode:
    """`sample_episode` of given images x [ways, shots + queries, height, width, channels] uint8, of given classes."""
    ways, each = x.shape[:2]
    if augment == "rotations":  # uint8 until the end: a quarter of the bytes to move
        x = jax.vmap(_rotate)(x, drawn // classes)
    elif augment == "flip_crop":
        keys = jax.random.split(jax.random.split(key, 3)[2], (ways, each))
        x = jax.vmap(jax.vmap(_flip_crop))(keys, x)
    x = x.astype(jnp.float32) / 255.0
    labels = jnp.arange(ways, dtype=jnp.int32)
    return Episode(
        support_x=x[:, :shots].reshape(-1, *x.shape[2:]),
        support_y=jnp.repeat(labels, shots),
        query_x=x[:, shots:].reshape(-1, *x.shape[2:]),
        query_y=jnp.repeat(labels, each - shots),
        classes=drawn.astype(jnp.int32),
    )


def _draw(key: Array, count: Array, bound: int, n: int) -> Array:
    """n distinct integers of [0, count), count <= bound, in random order: the n largest of random scores."""
    scores = jax.random.uniform(key, (bound,), jnp.float32)
    return jax.lax.top_k(jnp.where(jnp.arange(bound) < count, scores, -1.0), n)[1]


def _rotate(x: Array, quarter_turns: Array) -> Array:
    """x [n, side, side, channels] turned counter-clockwise by a traced number of quarter turns."""
    return jax.lax.switch(quarter_turns, [lambda a, k=k: jnp.rot90(a, k, axes=(1, 2)) for k in range(4)], x)


def _flip_crop(key: Array, x: Array) -> Array:
    """x [height, width, channels] mirrored with probability 1/2, then cropped from a 4-pixel zero padding."""
    flip_key, crop_key = jax.random.split(key)
    x = jnp.where(jax.random.bernoulli(flip_key), x[:, ::-1], x)
    top, left = jax.random.randint(crop_key, (2,), 0, 9)
    return jax.lax.dynamic_slice(jnp.pad(x, ((4, 4), (4, 4), (0, 0))), (top, left, jnp.int32(0)), x.shape)
