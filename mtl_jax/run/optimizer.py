"""The outer optimiser: an optax chain with clipping, a schedule, and frozen weights left alone."""

import jax
import optax

from mtl_jax.types import PyTree

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")


def meta_optimizer(
    meta_lr: float,
    steps: int,
    schedule: str = "cosine",
    optimizer: str = "adam",
    clip: float | None = 10.0,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Clip by global norm, then Adam, AdamW or SGD at a scheduled rate.

    Args:
        meta_lr: the outer rate at step 0.
        steps: meta-steps over which "cosine" and "linear" fall to 0.
        schedule: "constant", "cosine" or "linear".
        optimizer: "adam", "adamw" or "sgd" (momentum is for `optax` users to pass themselves).
        clip: largest global norm of the meta-gradient; None leaves it as it is.
        weight_decay: AdamW's.

    Returns:
        An optax transformation; `freeze` it for learners with frozen weights (`train` does so).

    Raises:
        ValueError: a rate not above 0, or an unknown name.
    """
    if meta_lr <= 0:
        raise ValueError(f"meta_lr must be above 0, not {meta_lr}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}: choose one of {', '.join(SCHEDULES)}")
    rate = {
        "constant": optax.constant_schedule(meta_lr),
        "cosine": optax.cosine_decay_schedule(meta_lr, steps),
        "linear": optax.linear_schedule(meta_lr, 0.0, steps),
    }[schedule]
    rule = {
        "adam": lambda: optax.adam(rate),
        "adamw": lambda: optax.adamw(rate, weight_decay=weight_decay),
        "sgd": lambda: optax.sgd(rate),
    }[optimizer]()
    return rule if clip is None else optax.chain(optax.clip_by_global_norm(clip), rule)


def freeze(optimizer: optax.GradientTransformation, theta: PyTree) -> optax.GradientTransformation:
    """The same optimiser with everything under theta's top-level key "frozen" masked out, weight decay included."""
    if not (isinstance(theta, dict) and "frozen" in theta):
        return optimizer
    labels = {k: jax.tree.map(lambda _, k=k: "frozen" if k == "frozen" else "moving", v) for k, v in theta.items()}
    return optax.multi_transform({"moving": optimizer, "frozen": optax.set_to_zero()}, labels)
