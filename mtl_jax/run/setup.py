"""A run read back from its folder, and the pieces that its settings make: pools, optimiser, cache of programs.

JAX is imported where something is built, not with this module: see `methods`.
"""

import contextlib
import ctypes
import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mtl_jax  # its names load on first use
from mtl_jax.run.methods import DEFAULTS, Config, build_learner

if TYPE_CHECKING:
    import optax

    from mtl_jax.data.pool import ClassPool
    from mtl_jax.types import PyTree

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def build_optimizer(config: Mapping[str, Any]) -> "optax.GradientTransformation":
    """The run's outer optimiser: its rule, rate, schedule and clip (0 for none), slower where the method says so."""
    from mtl_jax.run.optimizer import meta_optimizer, scale_parts

    names = ("schedule", "optimizer", "momentum", "weight_decay")
    settings = {k: config[k] for k in names} | {"clip": config["clip"] or None}
    rule = meta_optimizer(config["meta_lr"], config["steps"], **settings)
    return scale_parts(rule, config["rates"]) if config["rates"] else rule


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

    from mtl_jax.data.hard import empty
    from mtl_jax.run import checkpoint
    from mtl_jax.run.optimizer import freeze
    from mtl_jax.run.train import FAILED
    from mtl_jax.types import TrainState

    key, rule = jax.random.key(0), build_optimizer(config)
    x = jax.ShapeDtypeStruct((1, *config["image_shape"]), "float32")
    theta = jax.eval_shape(build_learner(config).init, key, x)  # shapes alone: the values are read
    opt_state = jax.eval_shape(freeze(rule, theta).init, theta)
    failed = jax.eval_shape(lambda: empty(FAILED)) if config["hard_tasks"] else None
    like = TrainState(theta, opt_state, jax.ShapeDtypeStruct((), "int32"), key, failed)  # type: ignore[arg-type]
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


def tune_cpu() -> None:
    """Make each core of a CPU a device of its own, which tasks are then spread over, and keep memory once it is had.

    A meta-step is thousands of small operations, which one core does better alone than two share; and a third of its
    time can go into the page faults of buffers that are handed back to the system and asked for again. Programs run in
    the thread that calls them, whose memory grows without limit: another thread's large buffers would go back each
    time, and one pool of memory for all threads makes them wait for each other, most of all once a compilation has left
    it in pieces. It must come before JAX is first used; later, or where the number of CPU devices has been set, cores
    stay as they are.
    """
    import jax

    _keep_memory()
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.config.jax_num_cpu_devices < 1:  # type: ignore[attr-defined]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with contextlib.suppress(RuntimeError):  # JAX is in use
            jax.config.update("jax_num_cpu_devices", cores)


def _keep_memory() -> None:
    """Tell the C library (glibc; others are left alone) to use freed memory again rather than give it back."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
            mallopt(name, value)
