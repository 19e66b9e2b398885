"""Every method by its command-line name, and the settings that make a learner of it.

JAX is imported where something is built, not with this module: the command line names methods and defaults at once.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mtl_jax.types import Array, Learner, Model

Config = dict[str, Any]

DEFAULTS: Mapping[str, Any] = {
    "ways": 5, "shots": 1, "queries": 15, "tasks": 16, "inner_steps": 5, "test_steps": None, "inner_lr": 0.4,
    "order": 2, "steps": 1000, "seed": 0, "meta_lr": 1e-3, "schedule": "cosine", "optimizer": "adam", "momentum": 0.0,
    "weight_decay": 0.0, "clip": 10.0, "rates": None, "model": "conv4", "norm": "transductive", "width": None,
    "precision": "float32", "downsample": "pool", "batch": None, "label_smoothing": 0.0, "init": None,
    "pretrain_steps": None, "transfer": None, "inner_rule": None, "hard_tasks": False, "task_chunk": None,
    "val_every": 500, "val_episodes": 200, "log_every": 50,
}  # fmt: skip
WIDTHS = {"conv4": 64, "resnet12": 16}  # of the first block, unless a width is given


class Method(NamedTuple):
    """Where a learner comes from, and which network it works on.

    Attributes:
        home: its file in mtl_jax/learners, with its own DEFAULTS.
        function: its name there.
        head: its network has an output a class, so that it solves tasks of as many ways as it was trained on.
        maps: its network gives feature maps.
        batches: it trains on batches of all source classes, not on tasks.
        pretrained: its body is pre-trained on all source classes, by itself unless it is given.
        fixed: settings that make it what it is; they stand whatever is asked.
    """

    home: str
    function: str
    head: bool = True
    maps: bool = False
    batches: bool = False
    pretrained: bool = False
    fixed: Mapping[str, Any] = {}


METHODS: Mapping[str, Method] = {
    "maml": Method("maml", "maml"),
    "fomaml": Method("maml", "fomaml", fixed={"order": 1}),
    "anil": Method("anil", "anil"),
    "boil": Method("boil", "boil"),
    "meta-sgd": Method("meta_sgd", "meta_sgd"),
    "mamlpp": Method("mamlpp", "mamlpp"),
    "proto-maml": Method("proto_maml", "proto_maml", head=False),
    "imaml": Method("imaml", "imaml"),
    "reptile": Method("reptile", "reptile"),
    "protonet": Method("protonet", "protonet", head=False),
    "matching": Method("matching", "matching", head=False),
    "relation": Method("relation", "relation", head=False, maps=True),
    "r2d2": Method("ridge", "r2d2", head=False),
    "lstm": Method("lstm", "lstm"),
    "mtl": Method("mtl", "mtl", pretrained=True),
    "finetune": Method("finetune", "finetune", head=False, batches=True),
    "baseline-pp": Method("finetune", "baseline_pp", head=False, batches=True),
}


def complete(given: Mapping[str, Any]) -> Config:
    """Every setting of a learner: those given, the others by its own defaults, then the house's.

    Raises:
        ValueError: an unknown learner, or a setting that would make it another one.
    """
    name = given["learner"]
    method = find(name)
    if name == "fomaml" and given.get("order", 1) != 1:
        raise ValueError("fomaml is maml of order 1: leave --order out, or choose maml")
    own = importlib.import_module(f"mtl_jax.learners.{method.home}").DEFAULTS
    config = {**DEFAULTS, **own, **given, **method.fixed}
    config["width"] = config["width"] or WIDTHS[config["model"]]
    if str(config.get("dataset", "")).startswith("folder:"):  # so that the run can be evaluated from anywhere
        folder = Path(config["dataset"].removeprefix("folder:")).expanduser().resolve()
        config["dataset"] = f"folder:{folder}"
    return config


def find(name: str | None) -> Method:
    """The method of a command-line name; ValueError if there is none."""
    if name is None or name not in METHODS:
        raise ValueError(f"unknown learner {name!r}: choose one of {', '.join(METHODS)}")
    return METHODS[name]


def network(config: Mapping[str, Any], ways: int | None, maps: bool = False) -> "Model":
    """The run's network, with a head of `ways` outputs, or for features or feature maps."""
    from mtl_jax import models

    width = config["width"]
    if config["model"] == "conv4":
        net = models.conv4(ways, width, config["norm"], config["downsample"], maps)
    elif maps:
        raise ValueError(f"{config['learner']} compares feature maps, which {config['model']} has none of: use conv4")
    else:
        net = models.resnet12(ways, (width, 2 * width, 4 * width, 8 * width), config["norm"])
    return models.in_bfloat16(net) if config["precision"] == "bfloat16" else net


def build_learner(config: Mapping[str, Any], ways: int | None = None) -> "Learner":
    """The run's learner, for tasks of `ways` classes; those of its training unless given.

    Raises:
        ValueError: an unknown learner, or ways that its head does not have.
    """
    method, ways = find(config.get("learner")), ways or config["ways"]
    if method.head and ways != config["ways"]:
        raise ValueError(
            f"{config['learner']} was trained with a head of {config['ways']} ways, not {ways}: "
            f"give it tasks of {config['ways']} classes, or train with --ways {ways}"
        )
    factory = _factory(config)
    net = network(config, ways if method.head else None, method.maps)
    taken = inspect.signature(factory).parameters
    settings = {k: v for k, v in {**config, "ways": ways}.items() if k in taken and v is not None}
    return factory(net, **settings)


def over_the_run(config: Mapping[str, Any]) -> "Learner | Callable[[Array], Learner]":
    """What the trainer is given: the learner, or step -> learner for a method that changes with its `progress`."""
    if "progress" not in inspect.signature(_factory(config)).parameters:
        return build_learner(config)
    return lambda step: build_learner({**config, "progress": step / config["steps"]})


def with_test_steps(config: Mapping[str, Any], steps: int) -> Config:
    """The settings of the same learner that adapts with another number of inner steps; theta fits both."""
    if not config["inner_steps"]:
        raise ValueError(f"{config['learner']} adapts without gradient steps: leave --inner-steps out")
    own = "test_steps" if "test_steps" in inspect.signature(_factory(config)).parameters else "inner_steps"
    return {**config, own: steps}


def _factory(config: Mapping[str, Any]) -> Callable[..., "Learner"]:
    from mtl_jax import learners

    return getattr(learners, find(config.get("learner")).function)
