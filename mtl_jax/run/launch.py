"""launch: a run, or one a seed, from settings alone: data, learner, pre-training, training, result.json."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.data import datasets
from mtl_jax.data.batches import batch_classes, sample_batch
from mtl_jax.run import setup
from mtl_jax.run.folder import RunFolder
from mtl_jax.run.graft import graft
from mtl_jax.run.methods import Config, build_learner, complete, find, over_the_run
from mtl_jax.run.metrics import ci95, write_json
from mtl_jax.run.progress import Progress
from mtl_jax.run.seeds import train_seeds
from mtl_jax.run.train import Trained, forget, fresh, train
from mtl_jax.types import PyTree

SHARED = (  # what a run and the pre-training that it does by itself have in common
    "model", "precision", "width", "norm", "downsample", "dataset", "image_size", "augment", "seed", "ways", "shots",
    "queries", "val_episodes",
)  # fmt: skip
PRETRAIN_STEPS = 2000  # for a method that pre-trains by itself, unless it is told how many


def launch(
    config: Mapping[str, Any], out: Path, resume: bool = False, quiet: bool = False
) -> tuple[Trained, dict[str, Any]]:
    """Train as `config` says, and leave config.json, metrics.jsonl, checkpoints/ and result.json in `out`.

    A method that needs a pre-trained network and is given none by `init` pre-trains one first, in `out`/pretrain;
    called again after an interruption, that goes on where it stopped.

    Args:
        config: the settings that `methods.complete` gives, with "dataset"; of a resumed run, those it began with.
        out: the run's folder.
        resume: go on with the run that it holds.
        quiet: show no progress.

    Returns:
        (Trained, what result.json holds).

    Raises:
        ValueError: settings that do not fit the data or each other, or a folder that holds a run.
        NonFiniteError: see `train`.
        KeyboardInterrupt: Ctrl-C during the pre-training.
    """
    RunFolder(out, resume=resume)  # refused before the data are read, not after
    earlier = setup.seconds_so_far(out, config["steps"]) if resume else 0.0
    config, pool, settings = _settings(config)
    theta = None if resume else _start(config, out, quiet)
    with _progress(config, quiet) as report:
        run = train(
            over_the_run(config), pool, jax.random.key(config["seed"]), hard_tasks=config["hard_tasks"], out=out,
            config=config, resume=resume, theta=theta, on_progress=report, **settings,
        )  # fmt: skip
    forget()  # the learner was made here
    return run, _result(config, run, out, earlier)


def launch_seeds(
    config: Mapping[str, Any], out: Path, seeds: int, quiet: bool = False
) -> tuple[list[Trained], dict[str, Any]]:
    """Train with `seeds` seeds at once, from config's own on, each in a folder that is a run like any other.

    Args:
        config, quiet: as in `launch`.
        out: the folder of the runs' folders, which are named seed0 and so on.
        seeds: how many.

    Returns:
        (a Trained a seed, what `out`/result.json holds: val_accuracy is the mean over seeds, seeds_ci95
        1.96 std(ddof=1) / sqrt(seeds), and "runs" has each seed's own result).

    Raises:
        ValueError: see `launch`; or a method that starts from another network, or hard tasks.
        NonFiniteError: no seed is finite any more.
    """
    if config["init"] or find(config["learner"]).pretrained or config["hard_tasks"]:
        raise ValueError("seeds trained at once start from fresh networks and draw all classes: leave --seeds out")
    numbers = [config["seed"] + i for i in range(seeds)]
    folders = [out / f"seed{number}" for number in numbers]
    for folder in folders:
        RunFolder(folder)
    config, pool, settings = _settings(config)
    configs = [{**config, "seed": number} for number in numbers]
    keys = jnp.stack([jax.random.key(number) for number in numbers])
    with _progress(config, quiet) as report:
        runs = train_seeds(
            over_the_run(config), pool, keys, out=folders, configs=configs, on_progress=report, **settings
        )
    results = [_result(*each, 0.0) for each in zip(configs, runs, folders, strict=True)]
    scores = [each["val_accuracy"] for each in results if each["val_accuracy"] is not None]
    whole = results[0] | {"seeds": seeds, "steps": max(each["steps"] for each in results), "runs": results}
    whole |= {"val_accuracy": float(np.mean(scores)) if scores else None, "val_ci95": None}
    whole |= {"seeds_ci95": ci95(np.array(scores)) if scores else None}
    write_json(out / "result.json", whole)
    return runs, whole


def finish(config: Mapping[str, Any], out: Path, quiet: bool = False) -> None:
    """`launch`, or go on with what `out` holds of the run, or leave it as it is if it is done.

    Raises:
        KeyboardInterrupt: Ctrl-C during the training.
    """
    done = out / "result.json"
    if done.exists() and json.loads(done.read_text())["steps"] >= config["steps"]:
        return
    run, _ = launch(config, out, resume=(out / "checkpoints").exists(), quiet=quiet)
    if run.interrupted:
        raise KeyboardInterrupt


def _settings(config: Mapping[str, Any]) -> tuple[Config, Any, dict[str, Any]]:
    """(the settings with what the data add to them, the pool to train on, what the trainer is told)."""
    facts = datasets.info(config["dataset"])
    size, channels = config.get("image_size"), config.get("image_shape", [None] * 3)[2]
    pool = datasets.load(config["dataset"], "train", size, channels=channels)
    config = {"augment": facts.augment, **config, "image_shape": list(pool.input_shape)}
    batches = None
    if find(config["learner"]).batches:
        batches = partial(sample_batch, size=config["batch"], augment=config["augment"])
        config["classes"] = batch_classes(pool, config["augment"])
    val = setup.load_pool(config, "val") if "val" in facts.splits else None
    names = ("ways", "shots", "queries", "tasks", "steps", "augment", "task_chunk")
    settings = {k: config[k] for k in (*names, "val_every", "val_episodes", "log_every")}
    ways = config["ways"] if val is None else min(config["ways"], val.classes)
    settings |= {"val_pool": val, "val_size": None if val is None else (ways, config["shots"], config["queries"])}
    return config, pool, settings | {"sample": batches, "optimizer": setup.build_optimizer(config)}


def _progress(config: Config, quiet: bool) -> Any:
    return nullcontext() if quiet else Progress(config["steps"], f"{config['learner']} on {config['dataset']}")


def _result(config: Config, run: Trained, out: Path, earlier: float) -> dict[str, Any]:
    """What result.json holds, written there."""
    seen = [row for row in run.history if "val_accuracy" in row]
    best: dict[str, Any] = max(reversed(seen), key=lambda row: row["val_accuracy"], default={})  # as eval reads
    result = {k: config[k] for k in ("learner", "dataset", "ways", "shots", "queries", "norm")}
    result |= {"steps": int(run.state.step), "seconds": earlier + run.seconds, "best_step": best.get("step")}
    result |= {"val_accuracy": best.get("val_accuracy"), "val_ci95": best.get("val_ci95"), "seed": config["seed"]}
    write_json(out / "result.json", result)
    return result


def _start(config: Config, out: Path, quiet: bool) -> PyTree | None:
    """theta to start from, where the network comes from another run; None for a fresh one."""
    if config["init"]:
        source = setup.load_theta(config["init"], setup.read_config(config["init"]))
    elif find(config["learner"]).pretrained:
        shared = {k: config[k] for k in SHARED if config.get(k) is not None}
        earlier = complete({**shared, "learner": "finetune", "steps": config["pretrain_steps"] or PRETRAIN_STEPS})
        finish(earlier, out / "pretrain", quiet)
        source = setup.load_theta(out / "pretrain", setup.read_config(out / "pretrain"))
    else:
        return None
    key = jax.random.split(jax.random.key(config["seed"]), 3)[0]  # the trainer's own for init
    x = jax.ShapeDtypeStruct((1, *config["image_shape"]), jnp.float32)
    return graft(fresh(build_learner(config), key, x), source)
