"""A run's settings as a plain dict, and what they build: pools, network, learner, optimiser, a run read back.

JAX is imported where something is built, not with this module: the command line names methods and defaults at once.
"""

import json
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mtl_jax  # its names load on first use

if TYPE_CHECKING:
    import optax

    from mtl_jax.data.pool import ClassPool
    from mtl_jax.types import Learner, Model, PyTree

Config = dict[str, Any]

DEFAULTS: Mapping[str, Any] = {
    "ways": 5, "shots": 1, "queries": 15, "tasks": 16, "inner_steps": 5, "inner_lr": 0.4, "order": 2, "steps": 1000,
    "seed": 0, "meta_lr": 1e-3, "schedule": "cosine", "clip": 10.0, "norm": "transductive", "width": 64,
    "downsample": "pool", "task_chunk": None, "val_every": 500, "val_episodes": 200, "log_every": 50,
}  # fmt: skip


class Method(NamedTuple):
    """How the command line builds a learner.

    Attributes:
        build: (config, ways) -> Learner.
        head: its network has an output a class, so that it solves tasks of as many ways as it was trained on.
        defaults: where its defaults differ from `DEFAULTS`.
        fixed: settings that it has no use for, or that make it what it is; they stand whatever is asked.
    """

    build: Callable[[Mapping[str, Any], int], "Learner"]
    head: bool = True
    defaults: Mapping[str, Any] = {}
    fixed: Mapping[str, Any] = {}


def _maml(config: Mapping[str, Any], ways: int) -> "Learner":
    return mtl_jax.learners.maml(network(config, ways), config["inner_lr"], config["inner_steps"], config["order"])


def _protonet(config: Mapping[str, Any], ways: int) -> "Learner":
    return mtl_jax.learners.protonet(network(config, None), ways=ways)


METHODS: Mapping[str, Method] = {
    "maml": Method(_maml),
    "fomaml": Method(_maml, fixed={"order": 1}),
    "protonet": Method(
        _protonet, False, {"meta_lr": 2e-3}, {"inner_steps": 0, "inner_lr": None, "order": None}
    ),
}  # fmt: skip


def complete(given: Mapping[str, Any]) -> Config:
    """Every setting of a learner: those given, the others by default.

    Raises:
        ValueError: an unknown learner, or a setting that would make it another one.
    """
    name = given["learner"]
    if name not in METHODS:
        raise ValueError(f"unknown learner {name!r}: choose one of {', '.join(METHODS)}")
    if name == "fomaml" and given.get("order", 1) != 1:
        raise ValueError("fomaml is maml of order 1: leave --order out, or choose maml")
    method = METHODS[name]
    config = {**DEFAULTS, **method.defaults, **given, **method.fixed}
    if str(config.get("dataset", "")).startswith("folder:"):  # so that the run can be evaluated from anywhere
        folder = Path(config["dataset"].removeprefix("folder:")).expanduser().resolve()
        config["dataset"] = f"folder:{folder}"
    return config


def network(config: Mapping[str, Any], ways: int | None) -> "Model":
    """The run's network, with a head of `ways` outputs or none."""
    return mtl_jax.models.conv4(ways, config["width"], config["norm"], config["downsample"])


def build_learner(config: Mapping[str, Any], ways: int | None = None) -> "Learner":
    """The run's learner, for tasks of `ways` classes; those of its training unless given.

    Raises:
        ValueError: an unknown learner, or ways that its head does not have.
    """
    if config.get("learner") not in METHODS:
        raise ValueError(f"unknown learner {config.get('learner')!r}: choose one of {', '.join(METHODS)}")
    method, ways = METHODS[config["learner"]], ways or config["ways"]
    if method.head and ways != config["ways"]:
        raise ValueError(
            f"{config['learner']} was trained with a head of {config['ways']} ways, not {ways}: "
            f"give it tasks of {config['ways']} classes, or train with --ways {ways}"
        )
    return method.build(config, ways)


def build_optimizer(config: Mapping[str, Any]) -> "optax.GradientTransformation":
    """The run's outer optimiser: Adam with its rate, schedule and clip (0 for none)."""
    from mtl_jax.run.optimizer import meta_optimizer

    return meta_optimizer(config["meta_lr"], config["steps"], config["schedule"], clip=config["clip"] or None)


def load_pool(config: Mapping[str, Any], split: str, dataset: str | None = None) -> "ClassPool":
    """A split, of the run's data set or another, in the image size and channels that the run was trained on."""
    height, _, channels = config["image_shape"]
    return mtl_jax.datasets.load(dataset or config["dataset"], split, height, channels=channels)


def read_config(folder: str | PathLike[str]) -> Config:
    """The settings that a run was trained with.

    Raises:
        FileNotFoundError: no such folder, or no config.json in it.
        ValueError: config.json is not what `mtl-jax train` writes.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no config.json in {folder}: give the folder of a run that mtl-jax train wrote")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or train again") from error
    wanted = {*DEFAULTS, "learner", "dataset", "image_shape", "augment"}
    missing = sorted(wanted - set(config)) if isinstance(config, dict) else sorted(wanted)
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: give the folder of a run that mtl-jax train wrote")
    return config


def seconds_so_far(folder: str | PathLike[str], steps: int) -> float:
    """Training time of a run that is to go on until `steps`.

    Raises:
        ValueError: it is past that step already.
    """
    done = [int(path.name) for path in (Path(folder) / "checkpoints").glob("*") if path.name.isdigit()]
    if max(done, default=0) > steps:
        raise ValueError(f"{folder} is at step {max(done)} already: give --steps {max(done)} or more to resume")
    result = Path(folder) / "result.json"
    return float(json.loads(result.read_text()).get("seconds", 0.0)) if result.is_file() else 0.0


def load_theta(folder: str | PathLike[str], config: Mapping[str, Any]) -> "PyTree":
    """Meta-learned parameters of a run: those of its best validation, or its last where there was none.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or it is of another model than `config`'s.
    """
    import jax

    from mtl_jax.run import checkpoint
    from mtl_jax.run.optimizer import freeze
    from mtl_jax.types import TrainState

    key, rule = jax.random.key(0), build_optimizer(config)
    x = jax.ShapeDtypeStruct((1, *config["image_shape"]), "float32")
    theta = jax.eval_shape(build_learner(config).init, key, x)  # shapes alone: the values are read
    opt_state = jax.eval_shape(freeze(rule, theta).init, theta)
    like = TrainState(theta, opt_state, jax.ShapeDtypeStruct((), "int32"), key)  # type: ignore[arg-type]
    where = Path(folder) / "checkpoints"
    return checkpoint.restore(where, like, best=checkpoint.best_score(where) is not None).theta


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX has been given another or it cannot be written."""
    import jax

    from mtl_jax.data.images import cache_folder

    folder = cache_folder() / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
