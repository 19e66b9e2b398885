"""What experiments over a split backbone share: maps made once, features of one body, scores kept, paired gaps."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import ClassPool, Learner, Model, datasets, evaluate, models, train
from mtl_jax.app.features import in_batches
from mtl_jax.data import pixels
from mtl_jax.run.metrics import ci95, whole_file, write_json
from mtl_jax.types import Array, PyTree

SIZE = 128  # pixels of a side


def of_length(net: Model, length: float) -> Model:
    """The same network whose features have one length, so that one inner rate suits its head everywhere."""

    def apply(params: PyTree, x: Array, stats: Any = None) -> tuple[Array, Any]:
        z, _ = net.apply({k: v for k, v in params.items() if k != "head"}, x)
        z = length * z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
        return (z @ params["head"]["kernel"] + params["head"]["bias"] if "head" in params else z), None

    return Model(net.init, apply)


def as_they_are(ways: int | None = None) -> Model:
    """Features as the input has them, with a linear head of zeros given ways."""

    def init(key: Array, x: Array) -> PyTree:
        return {} if ways is None else {"head": {"kernel": jnp.zeros((x.shape[1], ways)), "bias": jnp.zeros(ways)}}

    def apply(params: PyTree, x: Array, stats: Any = None) -> tuple[Array, Any]:
        return (x @ params["head"]["kernel"] + params["head"]["bias"] if "head" in params else x), None

    return Model(init, apply)


def images_of(dataset: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [n, h, w, 3] uint8 and labels [n] of a split, or of "all" of them one after another."""
    parts, first = [], 0
    for each in ("train", "val", "test") if split == "all" else (split,):
        pool = datasets.load(dataset, each, SIZE if dataset.startswith("folder:") else None, channels=3, host=True)
        parts.append((np.asarray(pool.x), labels_of(pool) + first))
        first += pool.classes
    x, y = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(y)


def labels_of(pool: ClassPool) -> np.ndarray:
    """The class of each input of a pool [n]."""
    return np.repeat(np.arange(pool.classes), np.asarray(pool.count))


def maps_of(file: Path, backbone: str, after: int, dataset: str, split: str, each: int, classes: int) -> ClassPool:
    """The maps [n, h, w, c] that a backbone has after a block, made once and kept in a file, on the host.

    Args:
        file: where they are kept; its name should tell the other arguments.
        backbone, after: as `pretrained_maps` takes them.
        dataset, split: as `datasets.load` takes them; split may be "all", each split's classes after another's.
        each: images per class at most, the first ones.
        classes: at most, the first ones.
    """
    if not file.exists():
        x, labels = images_of(dataset, split)
        kept = (np.arange(len(labels)) - np.searchsorted(labels, labels) < each) & (labels < classes)
        x, labels = x[kept], labels[kept]
        maps, params = models.pretrained_maps(backbone, after)
        maps = jax.jit(maps)
        embed = partial(in_batches, lambda x: maps(params, x.astype(jnp.float32) / 255.0), most=32)
        z = np.concatenate([embed(pixels.resize(x[i : i + 512], SIZE)) for i in range(0, len(x), 512)])
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as temporary, temporary.open("wb") as target:
            np.savez(target, x=z, y=labels)
    with np.load(file) as arrays:
        return ClassPool.from_arrays(arrays["x"], arrays["y"], host=True)


def features_of(net: Model, body: PyTree, pools: Mapping[str, ClassPool]) -> dict[str, ClassPool]:
    """What a network that no task changes makes of all inputs of each pool."""
    apply = jax.jit(lambda body, x: net.apply(body, x)[0])

    def features(pool: ClassPool) -> ClassPool:
        return ClassPool.from_arrays(in_batches(lambda x: apply(body, x), np.asarray(pool.x), 128), labels_of(pool))

    return {name: features(pool) for name, pool in pools.items()}


def meta_train(
    learner: Learner, pool: ClassPool, folder: Path, rule: optax.GradientTransformation, **settings: int
) -> PyTree:
    """theta of a training that goes on where it stopped, its seconds kept; KeyboardInterrupt where it stops again."""
    going_on = {"out": folder, "resume": (folder / "checkpoints").exists(), "log_every": 10, "val_every": 50}
    run = train(learner, pool, jax.random.key(0), optimizer=rule, **going_on, **settings)
    write_json(folder / "seconds.json", {"seconds": run.seconds + seconds_of(folder)})
    if run.interrupted:
        raise KeyboardInterrupt
    return run.theta


def seconds_of(folder: Path) -> float:
    """Seconds of training that `meta_train` has kept of a folder."""
    file = folder / "seconds.json"
    return json.loads(file.read_text(encoding="utf-8"))["seconds"] if file.exists() else 0.0


def body_of(learner: Learner, theta: PyTree, pool: ClassPool) -> PyTree:
    """The network without its head of a learner, such as mtl, whose tasks change nothing but the head."""
    params = jax.jit(learner.adapt)(theta, jnp.asarray(pool.x[:5]), jnp.arange(5)).params
    return {part: layer for part, layer in params.items() if part != "head"}


def score(
    folder: Path,
    name: str,
    learner: Learner,
    theta: PyTree,
    pools: Mapping[str, ClassPool],
    episodes: int,
    chunk: int | None = None,
) -> None:
    """Keep the accuracies of a method's episodes on every target at 1 and 5 shots, the same ones for all methods."""
    for (target, pool), shots in product(pools.items(), (5, 1)):
        if not (file := folder / f"{name}@{target}@{shots}.npy").exists():
            size = {"ways": 5, "shots": shots, "queries": 15, "episodes": episodes}
            there = replace(pool, x=jnp.asarray(pool.x))  # on the host other episodes would be drawn
            seen = evaluate(learner, theta, there, jax.random.key(1), **size, task_chunk=chunk)
            print(f"{file.stem}: {100 * seen.accuracy:.2f} ± {100 * seen.ci95:.2f}", flush=True)
            folder.mkdir(parents=True, exist_ok=True)
            np.save(file, seen.per_episode)


def is_scored(folder: Path, name: str, pools: Mapping[str, ClassPool]) -> bool:
    """Whether `score` has kept all of a method."""
    return all((folder / f"{name}@{target}@{shots}.npy").exists() for target in pools for shots in (5, 1))


def write_record(
    out: Path, about: Mapping[str, Any], leakage: Mapping[str, str], against: Mapping[str, str], source: str
) -> None:
    """Write result.json: what has been scored, with gaps to other methods over the episodes that both have.

    Args:
        out: folder of the record, of a folder per training, and of "scores", where `score` keeps its files.
        about: what the record says beside its rows.
        leakage: target -> which of its classes the backbone has seen.
        against: name of a gap -> the method; "{source}" in it is what follows " from " in a row's own name.
        source: what it is for a method that has none.

    Its rows are {"method", "target", "shots", "episodes", "leakage", "accuracy", "ci95"}, with NAME and NAME_ci95 of
    each gap.
    """
    rows = []
    for target in leakage:
        for shots in (1, 5):
            ending = f"@{target}@{shots}.npy"
            seen = {f.name.removesuffix(ending): np.load(f) for f in sorted((out / "scores").glob(f"*{ending}"))}
            for method, values in seen.items():
                row = {"method": method, "target": target, "shots": shots, "episodes": len(values)}
                row |= {"leakage": leakage[target], "accuracy": values.mean(dtype=np.float64), "ci95": ci95(values)}
                for name, other in against.items():
                    other = other.format(source=method.partition(" from ")[2] or source)
                    if other in seen and other != method:
                        n = min(len(values), len(seen[other]))
                        gap = values[:n] - seen[other][:n]
                        row |= {name: gap.mean(dtype=np.float64), f"{name}_ci95": ci95(gap)}
                rows.append(row)
    spent = {file.parent.name: seconds_of(file.parent) for file in sorted(out.glob("*/seconds.json"))}
    write_json(out / "result.json", {**about, "train_seconds": spent, "transfer": rows})
