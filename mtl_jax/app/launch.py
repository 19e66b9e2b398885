"""launch: a run, or one per seed, from settings alone: data, learner, pre-training, training, result.json."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.app.build import build_learner, over_the_run
from mtl_jax.app.methods import (
    find_method,
    given_of,
    resolve_settings,
)
from mtl_jax.app.runs import changes, load_pool, load_theta, read_result, read_settings, seconds_so_far
from mtl_jax.app.settings import Settings
from mtl_jax.app.teacher import teacher_of
from mtl_jax.app.transfer import check_start, move_network
from mtl_jax.data import datasets, sources
from mtl_jax.data.batches import batch_classes
from mtl_jax.run import checkpoint
from mtl_jax.run.callbacks import EarlyStopping, TensorBoardWriter
from mtl_jax.run.loop import TrainResult, initial_theta
from mtl_jax.run.metrics import ci95_of_seeds, write_json
from mtl_jax.run.optimizer import meta_optimizer, multiply_updates
from mtl_jax.run.processes import is_first
from mtl_jax.run.progress import Progress
from mtl_jax.run.recorder import Recorder
from mtl_jax.run.saved import check_kept
from mtl_jax.run.seeds import train_seeds
from mtl_jax.run.train import choose_source, choose_validation, clear_compiled, train
from mtl_jax.types import PyTree

SHARED = (  # what a run and the pre-training that it does by itself have in common
    "dataset",
    "split_file",
    "image_size",
    "augment",
    "ways",
    "shots",
    "queries",
    "model",
    "width",
    "backbone",
    "norm",
    "downsample",
    "precision",
    "seed",
    "val_episodes",
)
PRETRAIN_STEPS = 2000  # for a method that pre-trains by itself, unless it is told how many


def launch(
    settings: Settings, out: Path, resume: bool = False, quiet: bool = False
) -> tuple[TrainResult, dict[str, Any]]:
    """Train as `settings` say, and leave config.json, metrics.jsonl, checkpoints/ and result.json in `out`.

    A method that needs a pre-trained network and is given none by `init` pre-trains one first, in `out`/pretrain;
    called again after an interruption, that goes on where it stopped.

    Args:
        settings: those that `resolve_settings` gives, with a data set; of a resumed run, those it began with.
        out: the run's folder.
        resume: go on with the run that it holds, however far it came; or begin it.
        quiet: show no progress.

    Returns:
        (TrainResult, what result.json holds).

    Raises:
        ValueError: settings that do not fit the data or each other, or a folder that holds a run.
        NonFiniteError: see `train`.
        KeyboardInterrupt: Ctrl-C during the pre-training.
    """
    Recorder(out, resume=resume)  # refused before the data are read, not after
    earlier = seconds_so_far(out, settings.outer.steps) if resume else 0.0
    settings, pool, given = _prepare(settings)
    begun = checkpoint.exists(out / "checkpoints")
    config = given_of(settings) | changes(out, settings)
    theta = None if begun else _start(settings, config, out, quiet)
    with ExitStack() as stack:
        if settings.run.tensorboard and is_first():
            writer = TensorBoardWriter(out / "tensorboard")
            stack.callback(writer.close)
            given["callbacks"].append(writer)
        if not quiet:
            given["callbacks"].append(stack.enter_context(_progress(settings)))
        run = train(
            pool=pool,
            key=jax.random.key(settings.run.seed),
            out=out,
            config=config,
            resume=resume,
            theta=theta,
            average=settings.outer.average,
            on_nonfinite=settings.run.on_nonfinite,
            hard_tasks=settings.task.hard_tasks,
            sizes=settings.task.sizes,
            progress=False,  # it has its own, with the names of learner and data set
            **given,
        )
    clear_compiled()  # the learner was made here
    return run, _result(settings, run, out, earlier)


def launch_seeds(
    settings: Settings, out: Path, seeds: int, quiet: bool = False
) -> tuple[list[TrainResult], dict[str, Any]]:
    """Train with `seeds` seeds at once, from the settings' own on, each in a folder that is a run like any other.

    Args:
        settings, quiet: as in `launch`.
        out: the folder of the runs' folders, which are named seed0 and so on.
        seeds: how many.

    Returns:
        (a TrainResult per seed, what `out`/result.json holds: val_accuracy is the mean over seeds, seeds_ci95 its
        interval by Student's t, and "runs" has each seed's own result).

    Raises:
        ValueError: see `launch`; or a method that starts from another network, or settings of one run alone.
        NonFiniteError: no seed is finite any more.
    """
    alone = {
        "init": settings.network.init,
        "hard-tasks": settings.task.hard_tasks,
        "sizes": settings.task.sizes,
        "tensorboard": settings.run.tensorboard,
        "patience": settings.run.patience,
        "on-nonfinite": settings.run.on_nonfinite != "stop",
        f"{settings.learner}'s pre-training": find_method(settings.learner).pretrained,
    }
    if odd := [name for name, value in alone.items() if value]:
        raise ValueError(f"seeds trained at once cannot have {odd[0]}: leave --seeds out, and train each alone")
    numbers = [settings.run.seed + i for i in range(seeds)]
    folders = [out / f"seed{number}" for number in numbers]
    for folder in folders:
        Recorder(folder)
    settings, pool, given = _prepare(settings)
    each = [replace(settings, run=replace(settings.run, seed=number)) for number in numbers]
    keys = jnp.stack([jax.random.key(number) for number in numbers])
    with ExitStack() as stack:
        if not quiet:
            given["callbacks"].append(stack.enter_context(_progress(settings)))
        runs = train_seeds(
            pool=pool,
            keys=keys,
            out=folders,
            configs=[given_of(one) for one in each],
            average=settings.outer.average,
            progress=False,
            **given,
        )
    clear_compiled()
    results = [_result(*one, 0.0) for one in zip(each, runs, folders, strict=True)]
    scores = [one["val_accuracy"] for one in results if one["val_accuracy"] is not None]
    whole = results[0] | {"seeds": seeds, "steps": max(one["steps"] for one in results), "runs": results}
    whole |= {"val_accuracy": float(np.mean(scores)) if scores else None, "val_ci95": None}
    whole |= {"seeds_ci95": ci95_of_seeds(scores) if scores else None}
    write_json(out / "result.json", whole)
    return runs, whole


def train_or_resume(settings: Settings, out: Path, quiet: bool = False) -> None:
    """`launch`, or go on with what `out` holds of the run, or leave it as it is if it is done.

    Raises:
        KeyboardInterrupt: Ctrl-C during the training.
    """
    if read_result(out).get("steps", 0) >= settings.outer.steps:
        return
    run, _ = launch(settings, out, resume=True, quiet=quiet)
    if run.interrupted:
        raise KeyboardInterrupt


def _prepare(settings: Settings) -> tuple[Settings, Any, dict[str, Any]]:
    """(the settings with what the data add to them, the pool to train on, what the trainer is told)."""
    task, outer, of_run = settings.task, settings.outer, settings.run
    pool = load_pool(settings, "train")
    facts = datasets.info(str(task.dataset), task.split_file)
    augment = "none" if settings.network.backbone else task.augment or facts.augment
    task = replace(task, augment=augment, image_shape=tuple(pool.input_shape), input_dtype=str(pool.input_dtype))
    method = find_method(settings.learner)
    given: dict[str, Any] = {"callbacks": [] if of_run.patience is None else [EarlyStopping(of_run.patience)]}
    if method.trains_on == "batches":
        task = replace(task, classes=batch_classes(pool, augment))
        given["source"] = sources.class_batches(task.batch, augment)
    settings = replace(settings, task=task)
    given["learner"] = over_the_run(settings, teacher_of(settings))
    build_learner(settings)  # what does not fit is refused before anything is drawn
    val = load_pool(settings, "val") if "val" in facts.splits else None
    check_kept(of_run.keep_best, outer.steps, of_run.val_every, val is not None, True)
    ways = task.ways if val is None else min(task.ways, val.classes)
    if ways != task.ways and method.network == "head":
        raise ValueError(
            f"{task.dataset}'s validation split has {ways} classes, and {settings.learner} has a head of {task.ways} "
            f"ways: train with --ways {ways} at most"
        )
    rule = meta_optimizer(
        outer.meta_lr,
        outer.steps,
        outer.schedule,
        outer.optimizer,
        outer.clip or None,
        outer.weight_decay,
        outer.momentum,
        method.undecayed,
    )
    given |= {
        "ways": task.ways,
        "shots": task.shots,
        "queries": task.queries,
        "tasks": task.tasks,
        "augment": task.augment,
        "steps": outer.steps,
        "task_chunk": of_run.task_chunk,
        "val_every": of_run.val_every,
        "val_episodes": of_run.val_episodes,
        "keep_best": of_run.keep_best,
        "log_every": of_run.log_every,
        "val_pool": val,
        "val_learner": None if ways == task.ways else build_learner(settings, ways),
        "val_size": None if val is None else (ways, task.shots, task.queries),
        "optimizer": multiply_updates(rule, outer.lr_multipliers) if outer.lr_multipliers else rule,
    }
    size = (task.ways, task.shots, task.queries)
    source = choose_source(pool, size, augment, task.sizes, task.hard_tasks, task.tasks, given.get("source"))
    if val is not None:
        choose_validation(val, size, given["val_size"], source, None)
    return settings, pool, given


def _progress(settings: Settings) -> Progress:
    return Progress(settings.outer.steps, f"{Path(settings.learner).name} on {settings.task.dataset}")


def _result(settings: Settings, run: TrainResult, out: Path, earlier: float) -> dict[str, Any]:
    """What result.json holds, written there."""
    seen = [row for row in run.history if row.get("val_accuracy") is not None]
    best: dict[str, Any] = max(seen, key=lambda row: row["val_accuracy"], default={})  # the first of equals
    task = settings.task
    result: dict[str, Any] = {
        "learner": settings.learner,
        "dataset": task.dataset,
        "ways": task.ways,
        "shots": task.shots,
    }
    result |= {"queries": task.queries, "norm": settings.network.norm, "steps": int(run.state.step)}
    if find_method(settings.learner).transductive:
        result["transductive"] = True
    result |= {"seconds": earlier + run.seconds, "best_step": best.get("step"), "seed": settings.run.seed}
    result |= {"val_accuracy": best.get("val_accuracy"), "val_ci95": best.get("val_ci95")}
    if is_first():
        write_json(out / "result.json", result)
    return result


def _start(settings: Settings, config: dict[str, Any], out: Path, quiet: bool) -> PyTree | None:
    """theta to start from, where the network comes from another run; None for a fresh one."""
    of = settings.network
    if of.init:
        folder = Path(of.init)
    elif find_method(settings.learner).pretrained:
        if is_first():  # the trainer writes it too, but after the pre-training, which shall be gone on with
            write_json(out / "config.json", config)
        shared = {k: v for k, v in given_of(settings).items() if k in SHARED and v is not None}
        folder = out / "pretrain"
        earlier = {**shared, "learner": "finetune", "steps": of.pretrain_steps or PRETRAIN_STEPS}
        train_or_resume(resolve_settings(earlier), folder, quiet)
    else:
        return None
    return start_from(settings, folder)


def start_from(settings: Settings, folder: str | Path) -> PyTree:
    """theta with which a run starts from the network of another: that one's in `folder`, the rest fresh by its seed."""
    of, of_source = settings.network, read_settings(folder)
    check_start(of, of_source.network)
    source = load_theta(folder, of_source)
    key = jax.random.split(jax.random.key(settings.run.seed), 3)[0]  # the trainer's own for init
    assert settings.task.image_shape is not None
    x = jax.ShapeDtypeStruct((1, *settings.task.image_shape), settings.task.input_dtype)
    return move_network(initial_theta(build_learner(settings), key, x), source, of.init_head)
