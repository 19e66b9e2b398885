"""launch: a run from its settings alone: data, learner, pre-training, training, result.json."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.data import datasets
from mtl_jax.data.batches import batch_classes, sample_batch
from mtl_jax.run import setup
from mtl_jax.run.folder import RunFolder
from mtl_jax.run.graft import graft
from mtl_jax.run.methods import Config, build_learner, complete, find, over_the_run
from mtl_jax.run.metrics import write_json
from mtl_jax.run.progress import Progress
from mtl_jax.run.train import Trained, train
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
    facts = datasets.info(config["dataset"])
    size, channels = config.get("image_size"), config.get("image_shape", [None] * 3)[2]
    pool = datasets.load(config["dataset"], "train", size, channels=channels)
    config = {"augment": facts.augment, **config, "image_shape": list(pool.images.shape[1:])}
    method, batches = find(config["learner"]), None
    if method.batches:
        batches = partial(sample_batch, size=config["batch"], augment=config["augment"])
        config["classes"] = batch_classes(pool, config["augment"])
    val = setup.load_pool(config, "val") if "val" in facts.splits else None
    theta = None if resume else _start(config, out, quiet)
    ways, shots, queries = (config[k] for k in ("ways", "shots", "queries"))
    with nullcontext() if quiet else Progress(config["steps"], f"{config['learner']} on {config['dataset']}") as report:
        run = train(
            over_the_run(config), pool, jax.random.key(config["seed"]), ways, shots, queries, tasks=config["tasks"],
            steps=config["steps"], optimizer=setup.build_optimizer(config), augment=config["augment"], sample=batches,
            hard_tasks=config["hard_tasks"], task_chunk=config["task_chunk"], val_pool=val,
            val_every=config["val_every"], val_episodes=config["val_episodes"], log_every=config["log_every"], out=out,
            config=config, val_size=None if val is None else (min(ways, val.classes), shots, queries), resume=resume,
            theta=theta, on_progress=report,
        )  # fmt: skip
    seen = [row for row in run.history if "val_accuracy" in row]
    best: dict[str, Any] = max(reversed(seen), key=lambda row: row["val_accuracy"], default={})  # as eval reads
    result = {k: config[k] for k in ("learner", "dataset", "ways", "shots", "queries", "norm")}
    result |= {"steps": int(run.state.step), "seconds": earlier + run.seconds, "best_step": best.get("step")}
    result |= {"val_accuracy": best.get("val_accuracy"), "val_ci95": best.get("val_ci95"), "seed": config["seed"]}
    write_json(out / "result.json", result)
    return run, result


def _start(config: Config, out: Path, quiet: bool) -> PyTree | None:
    """theta to start from, where the network comes from another run; None for a fresh one."""
    if config["init"]:
        source = setup.load_theta(config["init"], setup.read_config(config["init"]))
    elif find(config["learner"]).pretrained:
        shared = {k: config[k] for k in SHARED if config.get(k) is not None}
        earlier = complete({**shared, "learner": "finetune", "steps": config["pretrain_steps"] or PRETRAIN_STEPS})
        folder = out / "pretrain"
        run, _ = launch(earlier, folder, resume=(folder / "checkpoints").exists(), quiet=quiet)
        if run.interrupted:
            raise KeyboardInterrupt
        source = run.theta
    else:
        return None
    key = jax.random.split(jax.random.key(config["seed"]), 3)[0]  # the trainer's own for init
    return graft(build_learner(config).init(key, jnp.zeros((1, *config["image_shape"]))), source)
