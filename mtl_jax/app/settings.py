"""A run's settings: four frozen dataclasses and a method's own, checked at once, and one flat JSON on disk."""

import math
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any

from mtl_jax.data.augmentations import AUGMENTATIONS as AUGMENTATIONS

NORMS = ("transductive", "support", "none")
OWN = "own"  # whatever a network of one's own does that has no argument norm
FROZEN = "frozen"  # a backbone's own stored moments: every query is independent of the others
# of the first block, or of a hidden layer, unless a width is given
WIDTHS: Mapping[str, int | None] = {"conv4": 64, "resnet12": 16, "mlp": 64, "linear": None, "file": None}


def setting(default: Any, about: str, **limits: Any) -> Any:
    """A dataclass field with its help and limits.

    Args:
        default: what stands unless it is given.
        about: one line of help, with the unit.
        limits: least, most (numbers); above, below (numbers it must lie between); choices (words); only ("tasks",
            "batches", "pretrained" or "taught": the methods that have it); option=False for what is found out rather
            than given.
    """
    return field(default=default, metadata={"about": about, **limits})


@dataclass(frozen=True)
class TaskSettings:
    """Where tasks come from."""

    dataset: str | None = setting(None, "data set: a name (see mtl-jax datasets), or folder:/path and the like")
    split_file: str | None = setting(None, "JSON file of the classes of train, val and test")
    group_by: str | None = setting(
        None,
        "of folder:, a regular expression; images for which it finds the same in FOLDER/NAME, such as frames of one "
        "thing, are never in support and query of one task",
    )
    image_size: int | None = setting(None, "pixels of a side; the data set's unless given", least=1, most=4096)
    augment: str | None = setting(None, "training augmentation; the data set's unless given", choices=AUGMENTATIONS)
    ways: int = setting(5, "classes per task", least=1, most=100_000)
    shots: int = setting(1, "support images per class", least=1, most=100_000)
    queries: int = setting(15, "query images per class", least=1, most=100_000)
    tasks: int = setting(16, "tasks per step", least=1, most=1_000_000)
    sizes: tuple[tuple[int, int, int], ...] | None = setting(
        None, "WAYS,SHOTS,QUERIES of several sizes of task, one of them drawn per step", only="tasks"
    )
    hard_tasks: bool = setting(
        False, "after random steps, one step of tasks of the classes they failed on", only="tasks"
    )
    batch: int = setting(64, "images per batch of pre-training", least=1, most=1_000_000, only="batches")
    host: bool = setting(False, "leave the inputs in the host's memory or their file, for sets larger than the device")
    image_shape: tuple[int, ...] | None = setting(None, "shape of one input", option=False)
    input_dtype: str = setting("float32", "of the inputs as they are drawn", option=False)
    classes: int | None = setting(None, "classes of pre-training", option=False, only="batches")


@dataclass(frozen=True)
class NetworkSettings:
    """The network, and where its weights start."""

    model: str = setting(
        "conv4",
        "network; mlp (two hidden layers) and linear are for vectors; file is what --model-file makes",
        choices=("conv4", "resnet12", "mlp", "linear", "file"),
    )
    model_file: str | None = setting(
        None, "FILE.py:FUNCTION, a function of `ways` (None for features alone) that gives a network of your own"
    )
    width: int | None = setting(
        None, "filters of the first block, or units of a hidden layer; 64, and 16 for resnet12", least=1, most=8192
    )
    backbone: str | None = setting(
        None, "frozen backbone (lite0, or a file of weights) whose features, made once, stand in for the images"
    )
    norm: str = setting(
        "transductive",
        "whose moments normalise the queries; frozen with a backbone, own with a --model-file without argument norm",
        choices=(*NORMS, FROZEN, OWN),
    )
    downsample: str | None = setting(
        None,
        "how conv4 shrinks: max-pools, a spatial mean in place of the last, or strides of 2; pool for conv4",
        choices=("pool", "mean", "stride"),
    )
    precision: str = setting(
        "float32", "of the network's arithmetic; parameters stay float32", choices=("float32", "bfloat16")
    )
    init: str | None = setting(None, "folder of a run whose network to start from")
    init_head: bool = setting(False, "take that run's head too, the start of tasks of as many ways")
    pretrain_steps: int | None = setting(
        None,
        "steps of the pre-training that is done where --init names no run; 2000 unless given",
        least=1,
        most=10**9,
        only="pretrained",
    )
    teacher: str | None = setting(
        None,
        "folder of a run whose outputs for the source classes are learned beside the labels (distillation), a half of "
        "the loss at a temperature of 4",
        only="taught",
    )


@dataclass(frozen=True)
class OuterSettings:
    """The outer optimiser."""

    steps: int = setting(1000, "meta-steps in all", least=1, most=10**9)
    meta_lr: float = setting(1e-3, "outer rate", above=0.0)
    schedule: str = setting("cosine", "of the outer rate", choices=("constant", "cosine", "linear", "step"))
    optimizer: str = setting("adam", "outer rule", choices=("adam", "adamw", "sgd"))
    momentum: float = setting(0.0, "of sgd", least=0.0)
    weight_decay: float = setting(0.0, "of adamw and sgd", least=0.0)
    clip: float = setting(10.0, "largest norm of the meta-gradient, 0 for none", least=0.0)
    average: float | None = setting(
        None,
        "decay of an average of theta over steps, such as 0.999, which is validated and kept",
        above=0.0,
        below=1.0,
    )
    lr_multipliers: Mapping[str, float] | None = setting(
        None, "PART=FACTOR,...: what the outer rate is multiplied by for parts of theta"
    )


@dataclass(frozen=True)
class RunSettings:
    """The run itself."""

    seed: int = setting(0, "of all randomness", least=0, most=2**32 - 1)
    task_chunk: int | None = setting(None, "tasks at a time: less memory, the same result", least=1, most=1_000_000)
    val_every: int = setting(500, "meta-steps between validations", least=1, most=10**9)
    val_episodes: int = setting(200, "episodes of a validation", least=1, most=10**7)
    keep_best: int = setting(
        1, "of how many best validations the checkpoints are kept, for eval --ensemble", least=1, most=1000
    )
    log_every: int = setting(50, "meta-steps per row of metrics.jsonl", least=1, most=10**9)
    patience: int | None = setting(None, "validations without a better score after which to stop", least=1, most=10**9)
    on_nonfinite: str = setting(
        "stop", "at a step whose loss or meta-gradient is not finite: stop, or skip it", choices=("stop", "skip")
    )
    tensorboard: bool = setting(False, "also write TensorBoard files into the run's folder")


GROUPS = (TaskSettings, NetworkSettings, OuterSettings, RunSettings)


@dataclass(frozen=True)
class Settings:
    """All of a run: the learner's name, the four groups, and the arguments of the method's factory."""

    learner: str
    task: TaskSettings
    network: NetworkSettings
    outer: OuterSettings
    run: RunSettings
    method: Mapping[str, Any]


def all_fields() -> dict[str, Field]:
    """Every field of the four groups by name."""
    return {each.name: each for group in GROUPS for each in fields(group)}


def flat(settings: Settings) -> dict[str, Any]:
    """All settings in one dict, as config.json holds them."""
    groups = (settings.task, settings.network, settings.outer, settings.run)
    whole = {"learner": settings.learner}
    for group in groups:
        whole |= {k: _plain(v) for k, v in asdict(group).items()}
    return whole | dict(settings.method)


def check(name: str, value: Any, kind: type, limits: Mapping[str, Any]) -> Any:
    """The value in its kind, or ValueError with what would be right."""
    said = name.replace("_", "-")
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{said} is a switch: true or false, not {value!r}")
        return value
    if kind is str:
        if not isinstance(value, str):
            raise ValueError(f"{said} must be a word, not {value!r}")
        choices = limits.get("choices", ())
        if choices and value not in choices:
            raise ValueError(f"unknown {said} {value!r}: choose one of {', '.join(choices)}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{said} must be a number, not {value!r}")
    if kind is int and (isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"{said} must be a whole number, not {value}")
    if not math.isfinite(value):
        raise ValueError(f"{said} must be finite, not {value}")
    least, most, above, below = (limits.get(k) for k in ("least", "most", "above", "below"))
    if least is not None and value < least:
        raise ValueError(f"{said} must be at least {least}, not {value}")
    if above is not None and value <= above:
        raise ValueError(f"{said} must be above {above:g}, not {value}")
    if below is not None and value >= below:
        raise ValueError(f"{said} must be below {below:g}, not {value}")
    if most is not None and value > most:
        raise ValueError(f"{said} must be at most {most}, not {value}")
    return kind(value)


def kind_of(each: Field) -> type | None:
    """int, float, str or bool by a field's annotation; None for what has a form of its own."""
    names = {"int": int, "float": float, "str": str, "bool": bool}
    text = each.type if isinstance(each.type, str) else getattr(each.type, "__name__", str(each.type))
    return names.get(text.split(" | ")[0])


def checked_group(group: type, values: Mapping[str, Any]) -> Any:
    """One of the four dataclasses with each of its values checked."""
    ready = {}
    for each in fields(group):
        value = values.get(each.name, each.default)
        kind = kind_of(each)
        if value is not None and kind is not None:
            value = check(each.name, value, kind, each.metadata)
        elif value is not None:
            value = FORMS[each.name](value)
        elif each.default is not None:
            raise ValueError(f"{each.name.replace('_', '-')} cannot be left empty: its default is {each.default}")
        ready[each.name] = value
    return group(**ready)


def _sizes(value: Any) -> tuple[tuple[int, int, int], ...]:
    rows = []
    for row in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(row, list | tuple) or len(row) != 3:
            raise ValueError(f"sizes are WAYS,SHOTS,QUERIES each, not {row!r}")
        names = ("ways", "shots", "queries")
        rows.append(tuple(check(n, v, int, all_fields()[n].metadata) for n, v in zip(names, row, strict=True)))
    return tuple(rows)


def _multipliers(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError(f"lr-multipliers are PART=FACTOR,..., not {value!r}")
    return {str(k): check(f"lr-multipliers of {k}", v, float, {"least": 0.0}) for k, v in value.items()}


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"image-shape is a list of numbers, not {value!r}")
    return tuple(check("image-shape", v, int, {"least": 1}) for v in value)


FORMS = {"sizes": _sizes, "lr_multipliers": _multipliers, "image_shape": _shape}


def _plain(value: Any) -> Any:
    """What JSON gives back as it is: tuples as lists."""
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
