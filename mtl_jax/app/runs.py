"""A run read back from its folder: settings, learner and theta."""

import json
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mtl_jax.app import shipped
from mtl_jax.app.methods import (
    METHODS,
    find_method,
    given_of,
    has_setting,
    method_options,
    resolve_settings,
)
from mtl_jax.app.settings import Settings, all_fields

if TYPE_CHECKING:
    from mtl_jax.data.pool import ClassPool
    from mtl_jax.types import Learner, PyTree

RENAMED = {"rates": "lr_multipliers"}  # settings of version 0.1.0 that have another name now


class Run(NamedTuple):
    """A trained run: its settings, its learner, and the parameters of its best validation (or its last)."""

    settings: Settings
    learner: "Learner"
    theta: "PyTree"


def load_run(run: str | PathLike[str], ensemble: int = 1) -> Run:
    """Read a trained run.

    Args:
        run: its folder, or the name of weights that come with the package (`mtl-jax learners` lists them).
        ensemble: how many of its best checkpoints are to predict together; see `learners.ensemble.ensemble`.

    Returns:
        Run(settings, learner, theta); theta's leaves are numpy arrays, of an ensemble with a leading axis [ensemble].

    Raises:
        FileNotFoundError: there is no such folder, or it holds no run.
        ValueError: a file of it is damaged or of another model, or it keeps fewer checkpoints.
    """
    from mtl_jax.app.build import build_learner

    settings = read_settings(run)
    return Run(settings, build_learner(settings, ensemble=ensemble), load_theta(run, settings, ensemble))


def read_settings(folder: str | PathLike[str]) -> Settings:
    """The settings that a run, or weights of that name, were trained with.

    Raises:
        FileNotFoundError: no such folder, or no config.json in it.
        ValueError: config.json is not what `mtl-jax train` writes.
    """
    if shipped.is_name(folder):
        return resolve_settings(_of_this_version(shipped.read_card(str(folder))["config"]))
    path = Path(folder) / "config.json"
    if not path.is_file():
        from mtl_jax.models.info import INFO

        names = ", ".join(shipped.names())
        raise FileNotFoundError(
            f"no config.json in {folder}: give the folder of a run that mtl-jax train wrote"
            + (f", the name of weights ({names})" if names else "")
            + f" or of a backbone ({', '.join(name for name, about in INFO.items() if about.package)})"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or train again") from error
    missing = [k for k in ("learner", "dataset", "image_shape") if not isinstance(config, dict) or k not in config]
    if isinstance(config, dict) and "learner" not in config and "on_nonfinite" in config:
        raise ValueError(
            f"{folder} was trained in Python, where its learner has no name: read theta there, with "
            "mtl_jax.run.checkpoint.load_theta, and use mtl_jax.evaluate"
        )
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: give the folder of a run that mtl-jax train wrote")
    try:
        return resolve_settings(_of_this_version(config))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not what mtl-jax train writes: {error}") from error


def _of_this_version(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that its learner has; version 0.1.0 wrote every learner's settings into each file."""
    method = find_method(config["learner"])
    own, common = method_options(method), all_fields()
    every = {*common, *own, *(name for each in METHODS.values() for name in method_options(each)), "learner"}
    given = {}
    for old, value in config.items():
        if old == "changes":  # what a resumed run had before
            continue
        name = RENAMED.get(old, old)
        if name not in every:
            raise ValueError(f"unknown setting {old!r}")
        mine = name in own and not (value is None and not own[name].optional)
        ours = name in common and has_setting(method, name) and not (value is None and common[name].default is not None)
        if mine or ours or name == "learner":
            given[name] = value
    return given


def load_pool(settings: Settings, split: str, dataset: str | None = None) -> "ClassPool":
    """A split, of the run's data set or another, in the image size and channels that the run was trained on.

    Of a run over a frozen backbone, the features of its images, made by the first who asks and kept in the cache.

    Raises:
        ValueError: no data set is named; or as `datasets.load`.
    """
    from mtl_jax.data import datasets

    task = settings.task
    name = dataset or task.dataset
    if name is None:
        raise ValueError("no data set: give --dataset NAME (see mtl-jax datasets) or --dataset folder:/path")
    size, channels = task.image_size, None
    shape = task.image_shape or ()
    if len(shape) == 3 and shape[0] == shape[1] and shape[2] in (1, 3):  # else arrays, which have no other size
        size, channels = shape[0], shape[2]
    own = task.split_file if name == task.dataset else None
    if settings.network.backbone is not None:
        from mtl_jax.app.features import cached_features
        from mtl_jax.data.cache import cache_folder

        file = cached_features(settings.network.backbone, name, task.image_size, own, cache_folder())
        return datasets.load(f"npz:{file}", split, host=task.host)
    return datasets.load(name, split, size, channels=channels, host=task.host, split_file=own)


def check_single(name: str, ensemble: int) -> None:
    """ValueError if more than one network is asked of what comes with the package or was never trained here."""
    if ensemble > 1:
        raise ValueError(f"{name} is one network, not an ensemble of {ensemble}: leave --ensemble out")


def load_theta(folder: str | PathLike[str], settings: Settings, ensemble: int = 1) -> "PyTree":
    """Meta-learned parameters of a run: those of its best validation, or its last where there was none.

    Of an `ensemble` of more than one, those of as many best validations, stacked.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or it is of another model than `settings`'s.
    """
    import jax

    from mtl_jax.app.build import build_learner
    from mtl_jax.run import checkpoint

    assert settings.task.image_shape is not None
    x = jax.ShapeDtypeStruct((1, *settings.task.image_shape), settings.task.input_dtype)
    like = jax.eval_shape(build_learner(settings).init, jax.random.key(0), x)  # shapes alone: the values are read
    if shipped.is_name(folder):
        check_single(str(folder), ensemble)
        leaves = shipped.read_leaves(str(folder))
        paths = jax.tree_util.tree_leaves_with_path(like)
        ordered = [leaves[jax.tree_util.keystr(path, simple=True, separator="/")] for path, _ in paths]
        return jax.tree.unflatten(jax.tree.structure(like), ordered)
    saved = Path(folder) / "checkpoints"
    return checkpoint.load_best(saved, like, ensemble) if ensemble > 1 else checkpoint.load_theta(saved, like)


def changes(folder: str | PathLike[str], settings: Settings) -> dict[str, Any]:
    """What config.json says of a run's earlier settings: {"changes": [{"from_step", and each old value}]}, or nothing.

    Those of before are kept, and what `settings` change now is added.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        return {}
    said = list(json.loads(path.read_text(encoding="utf-8")).get("changes", []))
    there, here = given_of(read_settings(folder)), given_of(settings)
    old = {k: there.get(k) for k in here if k in there and there[k] != here[k]}
    done = [int(each.name) for each in (Path(folder) / "checkpoints").glob("*") if each.name.isdigit()]
    if old and done:
        said.append({"from_step": max(done), **old})
    return {"changes": said} if said else {}


def seconds_so_far(folder: str | PathLike[str], steps: int) -> float:
    """Training time of a run that is to go on until `steps`.

    Raises:
        ValueError: it is past that step already.
    """
    done = [int(path.name) for path in (Path(folder) / "checkpoints").glob("*") if path.name.isdigit()]
    if max(done, default=0) > steps:
        raise ValueError(f"{folder} is at step {max(done)} already: give --steps {max(done)} or more to resume")
    return float(read_result(folder).get("seconds", 0.0))


def read_result(folder: str | PathLike[str]) -> dict[str, Any]:
    """What result.json holds; nothing where there is none, or it is damaged."""
    try:
        result = json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}


def plain_name(text: str) -> str:
    """A data set's or a learner's name, or the last part of its path, as a part of a folder's name."""
    return re.sub(r"\W+", "-", Path(text).name)


def fresh_folder(path: str | PathLike[str]) -> Path:
    """`path`, or `path`-2, -3, ... where that exists already."""
    folder, number = Path(path), 1
    while folder.exists():
        number += 1
        folder = Path(f"{path}-{number}")
    return folder
