"""Distillation: a trained network's outputs as a second target of a pre-training."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.learners.checks import check_above, check_share
from mtl_jax.types import Array


class Teacher(NamedTuple):
    """What a pre-training learns from beside its labels.

    Attributes:
        logits: x [n, ...] -> [n, classes], a trained network's outputs for the source classes of the pre-training.
        temperature: T, by which both networks' logits are divided, above 0.
        share: s of the loss that is the teacher's, in (0, 1]; 1 for a pre-training without labels.
    """

    logits: Callable[[Array], Array]
    temperature: float = 4.0
    share: float = 0.5


def check_teacher(teacher: Teacher) -> None:
    """ValueError for a temperature or a share out of range, TypeError for what is no teacher."""
    if not isinstance(teacher, Teacher):
        raise TypeError(f"teacher must be a learners.distillation.Teacher(logits), not {type(teacher).__name__}")
    check_above(temperature=teacher.temperature)
    check_share("]", share=teacher.share)
    if teacher.share == 0:
        raise ValueError("share of a teacher must be above 0, not 0: leave the teacher out")


def learn_from(teacher: Teacher, value: Array, logits: Array, x: Array) -> Array:
    """The loss of labels and of a teacher together; no gradient reaches the teacher.

    (1 - s) L + s T^2 1/n sum_i KL(softmax(t(x_i) / T) || softmax(z_i / T))

    Args:
        teacher: t, T and s.
        value: [] L, the loss by the labels.
        logits: [n, classes] z, the learner's own.
        x: [n, ...] the inputs that they are of.

    Returns:
        [] the loss.

    Raises:
        ValueError: the teacher gives outputs of another shape (while tracing).

    Reference: Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
    """
    target = jax.lax.stop_gradient(teacher.logits(x)).astype(logits.dtype)
    if target.shape != logits.shape:
        raise ValueError(
            f"the teacher gives outputs {list(target.shape)}, and the pre-training's are {list(logits.shape)}: "
            "it must be of the same source classes"
        )
    heat, share = (jnp.asarray(each, logits.dtype) for each in (teacher.temperature, teacher.share))
    known, own = jax.nn.log_softmax(target / heat), jax.nn.log_softmax(logits / heat)
    apart = (jnp.exp(known) * (known - own)).sum(-1).mean()
    return (1 - share) * value + share * jnp.square(heat) * apart
