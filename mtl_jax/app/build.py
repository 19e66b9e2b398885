"""Networks and learners made from a run's settings."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mtl_jax import learners, models
from mtl_jax.app import own_code
from mtl_jax.app.methods import find_method
from mtl_jax.app.settings import Settings
from mtl_jax.learners.copies import with_copies
from mtl_jax.learners.distillation import Teacher
from mtl_jax.learners.ensemble import ensemble as predict_together
from mtl_jax.types import Array, Learner, Model


def network(settings: Settings, ways: int | None, maps: bool = False) -> Model:
    """The run's network, with a head of `ways` outputs, or for features or feature maps.

    Raises:
        ValueError: a network that does not go with the inputs or the method, or a function of one's own that makes
            none.
    """
    of: Any = settings.network  # whose words are checked by its fields' choices
    width = of.width
    shape = settings.task.image_shape
    if of.model in ("conv4", "resnet12") and shape is not None and len(shape) != 3:
        raise ValueError(f"{of.model} takes images, not inputs of shape {tuple(shape)}: use --model mlp or linear")
    if of.model_file is not None:
        net = _own_network(of.model_file, ways, maps, width, of.norm)
    elif of.model == "conv4":
        net = models.conv4(ways, width, of.norm, of.downsample or "pool", maps)
    elif maps:
        raise ValueError(f"{settings.learner} compares feature maps, which {of.model} has none of: use conv4")
    elif of.model in ("mlp", "linear"):
        net = models.mlp(ways, (width, width) if of.model == "mlp" else ())
    else:
        net = models.resnet12(ways, (width, 2 * width, 4 * width, 8 * width), of.norm)
    return models.in_bfloat16(net) if of.precision == "bfloat16" else net


def _own_network(place: str, ways: int | None, maps: bool, width: int | None, norm: str) -> Model:
    """What a function of one's own makes, which is given those of these values that it has arguments for."""
    make = own_code.load(place)
    has = inspect.signature(make).parameters
    if maps and "maps" not in has:
        raise ValueError(f"{place} has no argument maps, and this method compares feature maps: give it one")
    values = {"ways": ways, "maps": maps, "width": width, "norm": norm}
    net = make(**{k: v for k, v in values.items() if (k in has and v is not None) or k == "ways"})
    if not isinstance(net, Model):
        raise ValueError(f"{place} gives {type(net).__name__}, not a Model: see models.from_linen and the like")
    return net


def build_learner(
    settings: Settings,
    ways: int | None = None,
    progress: Any = None,
    counted: bool = False,
    ensemble: int = 1,
    copies: Mapping[str, Any] | None = None,
    teacher: Teacher | None = None,
) -> Learner:
    """The run's learner, for tasks of `ways` classes; those of its training unless given.

    Args:
        settings: the run's.
        ways: classes per task.
        progress: the fraction of the run that is done, for a method that changes over it; its end unless given.
        counted: whether the learner, where it can, counts the ways of each task, which differ.
        ensemble: how many networks are to predict together.
        copies: {"vary", "support_copies", "query_copies"}: of each image at test, see `learners.copies.with_copies`.
        teacher: what its pre-training learns from beside labels; a learner that is only tested needs none.

    Raises:
        ValueError: ways that its head does not have, or a setting out of the factory's range.
    """
    method, trained = find_method(settings.learner), settings.task.ways
    ways = ways or trained
    if method.network == "head" and ways != trained:
        raise ValueError(
            f"{settings.learner} was trained with a head of {trained} ways, not {ways}: "
            f"give it tasks of {trained} classes, or train with --ways {ways}"
        )
    net = network(settings, ways if method.network == "head" else None, method.network == "maps")
    outside = {"ways": None if counted else ways, "classes": settings.task.classes, "progress": progress}
    outside |= {"width": settings.network.width, "norm": settings.network.norm, "teacher": teacher}
    needs = {k: outside[k] for k in method.needs if outside[k] is not None}
    own = own_code.is_place(settings.learner)
    factory = own_code.load(settings.learner) if own else getattr(learners, method.function)
    learner = factory(net, **settings.method, **needs)
    if not isinstance(learner, Learner):
        raise ValueError(
            f"{settings.learner} gives {type(learner).__name__}, not a Learner(init, adapt, predict, loss)"
        )
    learner = learner if ensemble == 1 else predict_together(learner)
    return with_copies(learner, **copies) if copies else learner


def over_the_run(settings: Settings, teacher: Teacher | None = None) -> Learner | Callable[[Array], Learner]:
    """What the trainer is given: the learner, or step -> learner for a method that changes with its progress."""
    counted = bool(settings.task.sizes)
    if "progress" not in find_method(settings.learner).needs:
        return build_learner(settings, counted=counted, teacher=teacher)
    steps = settings.outer.steps
    return lambda step: build_learner(settings, progress=step / steps, counted=counted)
