"""What every learner shares: the loss of outputs against targets, and the ways of a task."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mtl_jax.learners.checks import check_labels, is_labels, seen_labels
from mtl_jax.types import Array, Episode

Loss = Callable[[Array, Array], Array]  # (outputs, targets) -> scalar, the mean over examples


def objective(outputs: Array, y: Array, loss: Loss | None = None) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy against integer labels, or mean squared error against float targets; or a loss given.

    Args:
        outputs: [n, ways] logits, or [n, d] regression outputs.
        y: [n] integers, or [n, d] floats.
        loss: (outputs, y) -> scalar, in place of these two.

    Returns:
        The scalar loss, and {"accuracy"} or {"mse"}, whatever the loss.

    Raises:
        ValueError: the shapes do not fit (while tracing), or labels that have values are outside [0, ways).
    """
    if is_labels(y):
        if outputs.ndim != 2 or y.shape != outputs.shape[:1]:
            raise ValueError(
                f"logits {outputs.shape} and labels {y.shape} do not fit: want [n, ways] and [n], or float targets"
            )
        check_labels(y, outputs.shape[1])
        right = (outputs.argmax(-1).astype(y.dtype) == y).mean(dtype=outputs.dtype)
        if loss is not None:
            return _scalar(loss(outputs, y)), {"accuracy": right}
        return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean(), {"accuracy": right}
    if outputs.shape != y.shape:
        raise ValueError(f"outputs {outputs.shape} and targets {y.shape} do not fit: want the same [n, d]")
    mse = jnp.square(outputs - y).mean()
    return (mse if loss is None else _scalar(loss(outputs, y))), {"mse": mse}


def _scalar(value: Array) -> Array:
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise ValueError(
            f"loss gives {jnp.result_type(value)} {list(jnp.shape(value))}: want one float, such as a mean"
        )
    return value


def query_objective(
    outputs: Array, episode: Episode, spare: bool = False, loss: Loss | None = None
) -> tuple[Array, dict[str, Array]]:
    """`objective` on an episode's query set, once outputs and task are known to have the same ways.

    Args:
        outputs: [n, ways] logits of query_x, or [n, d] regression outputs.
        episode: the task; its `classes`, where it has them, say its ways.
        spare: outputs may be as many as support examples: what a learner that counts ways gives while tracing.
        loss: as in `objective`.

    Returns:
        As `objective`.

    Raises:
        ValueError: other outputs than ways, a task of one way, on which every answer is right, float targets in a
            task that has classes, or as `objective` (all while tracing).
    """
    y, classes = episode.query_y, episode.classes
    if is_labels(y) and outputs.ndim == 2:
        slots = outputs.shape[1]
        ways = slots if classes is None else classes.shape[-1]
        if slots != ways and not (spare and slots == len(episode.support_y) > ways):
            raise ValueError(
                f"the learner or its network gives {slots} outputs, and the task has {ways} ways: "
                f"build it for ways={ways}, or give it tasks of {slots} classes"
            )
        if ways < 2:
            raise ValueError("a task of 1 way is always right: give it at least 2 ways, or a regression float targets")
    elif not is_labels(y) and classes is not None:
        raise ValueError(f"a task with classes wants integer labels, not query_y {y.dtype} {list(y.shape)}")
    return objective(outputs, y, loss)


def count_ways(support_y: Array, ways: int | None = None) -> int:
    """How many class slots a task needs, as a static number.

    Args:
        support_y: [n] integer labels.
        ways: the answer, where the caller knows it.

    Returns:
        `ways`; else the largest label + 1 where labels have values; else, while tracing, n: the most classes
        that n examples can show, the empty ones of which are never predicted, by `never_absent`.

    Raises:
        ValueError: labels that have values are outside [0, ways).
    """
    seen = seen_labels(support_y)
    slots = ways if ways is not None else len(support_y) if seen is None else int(seen.max()) + 1
    check_labels(support_y, slots, "support labels")
    return slots


def task_ways(episode: Episode, ways: int | None = None) -> int:
    """`count_ways` of an episode, whose `classes` know, for a learner that may have been built for some ways.

    Raises:
        ValueError: the learner was built for other ways than the task has (while tracing), or as `count_ways`.
    """
    known = ways if episode.classes is None else episode.classes.shape[-1]
    if ways is not None and known != ways:
        raise ValueError(f"the learner was built for {ways} ways, and the task has {known}: build it with ways={known}")
    return count_ways(episode.support_y, known)


def never_absent(logits: Array, present: Array) -> Array:
    """Logits [n, ways] in which a class without support never wins, whatever the scale of the others.

    Absent classes get the smallest number of the dtype, others at least half of it: finite all, so that a softmax, a
    mean and a derivative of them are too.

    Args:
        logits: [n, ways].
        present: [ways] bool, which classes the support set holds.
    """
    least = jnp.finfo(logits.dtype).min
    return jnp.where(present, jnp.maximum(logits, jnp.asarray(least / 2, logits.dtype)), least)


def log_mean_probability(outputs: Array) -> Array:
    """Logits [several, n, ways] of several predictions -> log of the mean of their probabilities, [n, ways]."""
    shares = jax.nn.log_softmax(outputs, axis=-1)
    return jax.nn.logsumexp(shares, axis=0) - jnp.log(jnp.asarray(len(shares), shares.dtype))


def as_dtype(value: float | Array, dtype: jnp.dtype) -> float | Array:
    """A setting that may be an array of its own dtype, for arithmetic with arrays of this one."""
    return value.astype(dtype) if isinstance(value, jax.Array) else value
