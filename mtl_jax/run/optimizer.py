"""The outer optimiser: an optax chain with clipping, a schedule, and frozen weights left alone."""

import math
from collections.abc import Mapping, Sequence
from functools import cache, partial

import jax
import optax

from mtl_jax.types import PyTree

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear", "step")


def meta_optimizer(
    meta_lr: float,
    steps: int,
    schedule: str = "cosine",
    optimizer: str = "adam",
    clip: float | None = 10.0,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    undecayed: Sequence[str] = (),
) -> optax.GradientTransformation:
    """Clip by global norm, then Adam, AdamW or SGD at a scheduled rate.

    Args:
        meta_lr: the outer rate at step 0.
        steps: meta-steps over which "cosine" and "linear" fall to 0; "step" takes a tenth after a half of them and
            again after three quarters.
        schedule: "constant", "cosine", "linear" or "step".
        optimizer: "adam", "adamw" or "sgd".
        clip: largest global norm of the meta-gradient; None leaves it as it is.
        weight_decay: AdamW's, or SGD's (added to the gradient, biases and normalisation included).
        momentum: SGD's.
        undecayed: theta's top-level keys that weight decay leaves alone, such as factors that start at 1.

    Returns:
        An optax transformation; `freeze` it for learners with frozen weights (`train` does so).

    Raises:
        ValueError: a rate not above 0, an unknown name, or a weight decay or momentum that the rule has no place for.
    """
    if not 0 < meta_lr < math.inf:
        raise ValueError(f"meta_lr must be above 0 and finite, not {meta_lr}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}: choose one of {', '.join(SCHEDULES)}")
    if (weight_decay and optimizer == "adam") or (momentum and optimizer != "sgd"):
        raise ValueError(
            f"{optimizer} takes no weight decay or no momentum: weight decay is adamw's and sgd's, momentum sgd's"
        )
    rate = {
        "constant": optax.constant_schedule(meta_lr),
        "cosine": optax.cosine_decay_schedule(meta_lr, steps),
        "linear": optax.linear_schedule(meta_lr, 0.0, steps),
        "step": optax.piecewise_constant_schedule(meta_lr, {steps // 2: 0.1, 3 * steps // 4: 0.1}),
    }[schedule]
    mask = partial(_decayed, undecayed=tuple(undecayed)) if undecayed and weight_decay else None
    rule = {
        "adam": lambda: optax.adam(rate),
        "adamw": lambda: optax.adamw(rate, weight_decay=weight_decay, mask=mask),
        "sgd": lambda: optax.chain(optax.add_decayed_weights(weight_decay, mask), optax.sgd(rate, momentum or None)),
    }[optimizer]()
    return rule if clip is None else optax.chain(optax.clip_by_global_norm(clip), rule)


def freeze(optimizer: optax.GradientTransformation, theta: PyTree) -> optax.GradientTransformation:
    """The same optimiser with everything under theta's top-level key "frozen" masked out, weight decay included."""
    return _freezing(optimizer) if isinstance(theta, dict) and "frozen" in theta else optimizer


@cache
def _freezing(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """One object for every optimiser, so that a step compiled with it is found again."""

    def labels(theta: PyTree) -> PyTree:
        kinds = {k: "frozen" if k == "frozen" else "moving" for k in theta}
        return {k: jax.tree.map(lambda _, kind=kinds[k]: kind, part) for k, part in theta.items()}

    return optax.multi_transform({"moving": optimizer, "frozen": optax.set_to_zero()}, labels)


def multiply_updates(
    optimizer: optax.GradientTransformation, lr_multipliers: Mapping[str, float]
) -> optax.GradientTransformation:
    """The same optimiser with the updates of theta's top-level keys named in `lr_multipliers` multiplied by theirs."""

    def scaled(updates: PyTree, params: PyTree = None) -> PyTree:
        return {k: jax.tree.map(lambda u, k=k: u * lr_multipliers.get(k, 1.0), part) for k, part in updates.items()}

    return optax.chain(optimizer, optax.stateless(scaled))


def _decayed(theta: PyTree, undecayed: tuple[str, ...]) -> PyTree:
    """Which leaves weight decay is for."""
    return {k: jax.tree.map(lambda _, k=k: k not in undecayed, part) for k, part in theta.items()}
