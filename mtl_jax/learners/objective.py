"""What every learner shares: the loss of outputs against targets, and counting a task's ways."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.types import Array

EMPTY = -1e9  # the logit of a class that the support set does not hold


def objective(outputs: Array, y: Array) -> tuple[Array, dict[str, Array]]:
    """Mean cross-entropy against integer labels, or mean squared error against float targets.

    Args:
        outputs: [n, ways] logits, or [n, d] regression outputs.
        y: [n] integers, or [n, d] floats.

    Returns:
        The scalar loss, and {"accuracy"} or {"mse"}.

    Raises:
        ValueError: the shapes do not fit (while tracing).
    """
    if jnp.issubdtype(y.dtype, jnp.integer):
        if outputs.ndim != 2 or y.shape != outputs.shape[:1]:
            raise ValueError(f"logits {outputs.shape} and labels {y.shape} do not fit: want [n, ways] and [n]")
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()
        return loss, {"accuracy": (outputs.argmax(-1).astype(y.dtype) == y).mean(dtype=outputs.dtype)}
    if outputs.shape != y.shape:
        raise ValueError(f"outputs {outputs.shape} and targets {y.shape} do not fit: want the same [n, d]")
    loss = jnp.square(outputs - y).mean()
    return loss, {"mse": loss}


def count_ways(support_y: Array, ways: int | None = None) -> int:
    """How many class slots a task needs, as a static number.

    Args:
        support_y: [n] integer labels.
        ways: the answer, where the caller knows it.

    Returns:
        `ways`; else the largest label + 1 where labels are concrete; else, while tracing, n: the most classes
        that n examples can show, the empty ones of which get the logit EMPTY and are never predicted.
    """
    if ways is not None:
        return ways
    return len(support_y) if isinstance(support_y, jax.core.Tracer) else int(support_y.max()) + 1
