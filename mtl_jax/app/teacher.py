"""The teacher of a run's pre-training: another run, whose outputs for the source classes are learned too."""

import jax
import jax.numpy as jnp

from mtl_jax.app.build import network
from mtl_jax.app.methods import find_method
from mtl_jax.app.runs import load_theta, read_settings
from mtl_jax.app.settings import Settings
from mtl_jax.learners.distillation import Teacher
from mtl_jax.learners.inner import linear
from mtl_jax.types import Array


def teacher_of(settings: Settings) -> Teacher | None:
    """The trained network and head of the run that the settings name as teacher; None where they name none.

    Raises:
        ValueError: a run without a linear head for source classes, or of other classes or inputs than this one.
    """
    folder = settings.network.teacher
    if folder is None:
        return None
    there = read_settings(folder)
    lacks = f"the teacher {folder} is a run of {there.learner}, whose outputs are"
    if find_method(there.learner).trains_on != "batches":
        raise ValueError(f"{lacks} not of source classes: give one of mtl-jax pretrain")
    here, other_run = (vars(of.task) | {"backbone": of.network.backbone} for of in (settings, there))
    for name in ("dataset", "split_file", "classes", "image_shape", "backbone"):
        own, other = here[name], other_run[name]
        if own != other:
            said = name.replace("_", "-")
            raise ValueError(
                f"the teacher {folder} has {said} {other}, and this run {own}: it must be of the same source classes "
                "and inputs"
            )
    theta = jax.tree.map(jnp.asarray, load_theta(folder, there))
    if not isinstance(theta, dict) or not {"net", "classes"} <= theta.keys():  # somebody's own method
        raise ValueError(f"{lacks} not of a network and a head that are known: give one of mtl-jax pretrain")
    if "bias" not in theta["classes"]:
        raise ValueError(f"{lacks} cosines: give one of mtl-jax pretrain")
    net = network(there, None)

    def logits(x: Array) -> Array:
        return linear(theta["classes"], net.apply(theta["net"], x, None)[0])

    return Teacher(logits)
