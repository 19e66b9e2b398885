"""A frozen backbone with a head that is fitted to each task alone, nothing trained: BACKBONE, or BACKBONE:LEARNER."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl_jax.app.methods import find_method, nearest, resolve_settings
from mtl_jax.app.settings import Settings

if TYPE_CHECKING:
    from mtl_jax.types import PyTree

WEIGHTS = (".safetensors", ".pth", ".pt", ".bin")  # a file of a backbone's weights, and not a run
# Learners that fit all of their head to the task, each with the settings that ask nothing of a training.
HEADS: Mapping[str, Mapping[str, Any]] = {
    "simpleshot": {"centred": False},
    "rfs": {},
    "r2d2": {},
    "finetune": {},
    "baseline-pp": {},
    "metaoptnet": {},
    "simple-cnaps": {},
    "tim": {},
    "bdcspn": {},
}


def split_name(name: str) -> tuple[str, str | None]:
    """(BACKBONE, LEARNER or None) of BACKBONE:LEARNER."""
    backbone, colon, head = name.rpartition(":")
    return (backbone, head) if colon and backbone and "/" not in head else (name, None)


def is_backbone(name: str) -> bool:
    """Whether a name is a backbone's, or a file of weights, with or without a head, rather than a run's folder."""
    from mtl_jax.models.info import INFO

    backbone, _ = split_name(name)
    return not Path(name).is_dir() and (backbone in INFO or Path(backbone).suffix in WEIGHTS)


def settings_of(name: str, dataset: str | None, **task: Any) -> Settings:
    """The settings of a head over a backbone's features; simpleshot without centring unless the name has a head.

    Args:
        name: BACKBONE or BACKBONE:LEARNER.
        dataset: whose tasks it solves.
        task: ways, shots, queries and other settings of the task.

    Raises:
        ValueError: a learner that does not fit all of its head to the task.
    """
    backbone, head = split_name(name)
    head = head or "simpleshot"
    if head not in HEADS:
        raise ValueError(f"{head!r} is no head that a frozen backbone can have untrained: {nearest(head, HEADS)}")
    if find_method(head).trains_on == "batches":
        task = {"classes": 2, **task}  # of a source that is never seen
    return resolve_settings({"learner": head, "backbone": backbone, "dataset": dataset, **HEADS[head], **task})


def fresh_theta(settings: Settings) -> "PyTree":
    """What the learner starts from, of which nothing was learned."""
    import jax
    import jax.numpy as jnp

    from mtl_jax.app.build import build_learner

    assert settings.task.image_shape is not None
    return build_learner(settings).init(jax.random.key(0), jnp.zeros((2, *settings.task.image_shape)))
