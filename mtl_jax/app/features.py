"""features: what a frozen backbone makes of every image of a data set, once, for tasks to be drawn from."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.data import datasets, pixels
from mtl_jax.data.pool import ClassPool
from mtl_jax.data.tree import fingerprint
from mtl_jax.models import pretrained
from mtl_jax.models.info import INFO
from mtl_jax.run.metrics import whole_file, write_text
from mtl_jax.types import Array

BATCH = 32  # images at a time: one program, and little memory
log = logging.getLogger(__name__)
PART = 1024  # images per file while it goes on, so that an interrupted run goes on where it stopped

Embed = Callable[[np.ndarray], np.ndarray]  # images [n, height, width, 3] uint8 -> unit features [n, d] float32


def backbone_of(name: str) -> tuple[Callable[[Any, Array], Array], Any]:
    """A frozen backbone as a function that can be traced.

    f(x) / ||f(x)||, which is compared by direction: nearest means of unit features are worth 15 points at one shot.

    Args:
        name: a name, or a file of weights, as `pretrained` takes it.

    Returns:
        ((params, x [n, height, width, 3] uint8) -> unit features [n, d] float32; params).

    Raises:
        ValueError: as `pretrained`.
    """
    net, params = pretrained(name)

    def unit(params: Any, x: Array) -> Array:
        features, _ = net.apply(params, x.astype(jnp.float32) / 255.0)
        return features / jnp.maximum(jnp.linalg.norm(features, axis=-1, keepdims=True), 1e-12)

    return unit, params


def side_of(name: str) -> int:
    """The side in pixels of the images that a backbone expects, without reading its weights; 224 of a file of them."""
    return INFO[name].input_size if name in INFO else 224


def dimension_of(name: str) -> int:
    """How many features a backbone gives of an image; a file of weights is read for it."""
    if name in INFO:
        return INFO[name].features
    unit, params = backbone_of(name)
    return int(jax.eval_shape(unit, params, jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8)).shape[-1])


def embedder(backbone: str) -> tuple[Embed, int]:
    """`backbone_of` as a function of any number of images, a batch at a time.

    Args:
        backbone: a name, or a file of weights, as `pretrained` takes it.

    Returns:
        (images [n, height, width, 3] uint8 -> features [n, d] float32 of length 1, the side in pixels that it expects).

    Raises:
        ValueError: as `pretrained`.
    """
    function, params = backbone_of(backbone)
    unit = jax.jit(function)
    return lambda images: in_batches(lambda x: unit(params, x), images, BATCH), side_of(backbone)


def in_batches(f: Callable[[Array], Any], images: np.ndarray, most: int) -> Any:
    """f of images, at most so many at a time, the last batch filled up: one program, or two for few images."""
    size = min(most, 1 << (len(images) - 1).bit_length()) if most != len(images) else most
    parts = []
    for first in range(0, len(images), size):
        batch = images[first : first + size]
        filled = np.concatenate((batch, np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)))
        parts.append(jax.tree.map(np.asarray, f(jnp.asarray(filled))))
    return jax.tree.map(lambda *a: np.concatenate(a)[: len(images)], *parts)


def write_features(
    backbone: str,
    dataset: str,
    out: Path,
    image_size: int | None = None,
    split_file: str | None = None,
    say: Callable[[int, int, float], None] = lambda done, all, rate: None,
) -> dict[str, Any]:
    """Write the unit features of every image of a data set, as `npz:FILE` reads them; go on where it stopped.

    Args:
        backbone: a name, or a file of weights.
        dataset: as `datasets.load` takes it.
        out: the .npz file; beside it, while this goes on, a folder of parts.
        image_size: pixels of a side; what the backbone expects unless given.
        split_file: classes of train, val and test.
        say: called with images done, images in all, and images per second; first with none done, once nothing is left
            to refuse.

    Returns:
        {"images", "features", "seconds", "images_per_s", "image_size"}.

    Raises:
        ValueError: as `datasets.load` and `pretrained`, a data set that is no images, or parts of another setting.
    """
    if out.suffix != ".npz" or not out.absolute().parent.is_dir():
        raise ValueError(f"{out} must be a .npz file in a folder that exists")
    facts = datasets.info(dataset, split_file)
    if len(facts.image_shape) != 3:
        raise ValueError(f"a backbone takes images, and {dataset} has inputs of shape {tuple(facts.image_shape)}")
    embed, side = embedder(backbone)
    size = image_size or side
    # Files are read at the size asked for; small images stay small until their turn, or they would fill the memory.
    read_at = size if dataset.startswith("folder:") else None
    pools = {
        split: datasets.load(dataset, split, read_at, channels=3, host=True, split_file=split_file)
        for split in facts.splits
    }
    for pool in pools.values():
        if pool.x.ndim != 4 or pool.x.dtype != np.uint8:
            raise ValueError(f"a backbone takes images, and {dataset} has {pool.x.dtype} of shape {pool.input_shape}")
    if distinct(pools) == 1:  # few classes: every split is all of them
        pools = {"": next(iter(pools.values()))}
    parts = out.with_name(out.name + ".parts")
    setting = {"backbone": backbone, "dataset": dataset, "image_size": size, "split_file": split_file}
    _same_setting(parts, setting | {"files": _files_behind(backbone, dataset, split_file)})
    total, done, computed, began = sum(len(pool.x) for pool in pools.values()), 0, 0, time.perf_counter()
    say(0, total, 0.0)
    for split, first, images in _chunks(pools):
        file = parts / f"{split or 'all'}-{first}.npy"
        if not file.exists():
            with whole_file(file) as temporary, temporary.open("wb") as target:
                np.save(target, embed(pixels.resize(images, size)))
            computed += len(images)
        done += len(images)
        say(done, total, computed / max(time.perf_counter() - began, 1e-9))
    seconds = time.perf_counter() - began
    arrays = _gathered(parts, pools)
    with whole_file(out) as temporary, temporary.open("wb") as target:
        np.savez(target, allow_pickle=False, **arrays)
    shutil.rmtree(parts)
    rate = computed / max(seconds, 1e-9)
    about = {"images": total, "features": int(arrays["x"].shape[1]), "seconds": seconds, "images_per_s": rate}
    return about | {"image_size": size}


def distinct(pools: dict[str, ClassPool]) -> int:
    """How many different sets of classes the splits have."""
    return len({pool.names for pool in pools.values()})


def _chunks(pools: dict[str, ClassPool]) -> Iterator[tuple[str, int, np.ndarray]]:
    for split, pool in pools.items():
        for first in range(0, len(pool.x), PART):
            yield split, first, np.asarray(pool.x[first : first + PART])


def _gathered(parts: Path, pools: dict[str, ClassPool]) -> dict[str, np.ndarray]:
    """x [n, d], y [n], names [classes], split [n] where there are splits, and groups [n] where there are groups."""
    x, y, split_of, groups = [], [], [], []
    names: list[str] = []
    for split, pool in pools.items():
        count = np.asarray(pool.count)
        x += [np.load(parts / f"{split or 'all'}-{first}.npy") for first in range(0, len(pool.x), PART)]
        y.append(np.repeat(np.arange(len(count)), count) + len(names))
        split_of.append(np.full(int(count.sum()), split))
        if pool.groups is not None:  # rows are sorted by them
            size = np.asarray(pool.groups.size)
            groups.append(np.repeat(np.arange(len(size)), size))
        names += list(pool.names) or [f"{split}{i}" for i in range(len(count))]
    arrays = {"x": np.concatenate(x), "y": np.concatenate(y), "names": np.array(names)}
    if groups:
        arrays["groups"] = np.concatenate(groups)
    return arrays if "" in pools else arrays | {"split": np.concatenate(split_of)}


def _same_setting(parts: Path, setting: dict[str, Any]) -> None:
    """Make the folder of parts, or go on with one of the same setting."""
    file = parts / "setting.json"
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != setting:
        raise ValueError(f"{parts} holds parts of another setting: remove it, or give another --out")
    parts.mkdir(exist_ok=True)
    write_text(file, json.dumps(setting))


def cached_features(backbone: str, dataset: str, image_size: int | None, split_file: str | None, folder: Path) -> Path:
    """The file of a data set's features in a cache folder, made if it is not there.

    Raises:
        ValueError: as `write_features`.
    """
    facts = datasets.info(dataset, split_file)
    files = _files_behind(backbone, dataset, split_file)
    key = json.dumps([backbone, dataset, image_size, split_file, sorted(facts.classes.items()), files])
    file = folder / "features" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():

        def warn(done: int, total: int, rate: float) -> None:
            if not done:
                log.warning("making the features of %s by %s, once: this may take minutes", dataset, backbone)

        write_features(backbone, dataset, file, image_size, split_file, warn)
    return file


def _files_behind(backbone: str, dataset: str, split_file: str | None) -> str:
    """A hash of place, size and time of all files that features are made from: where one has changed, so have they."""
    kind, _, where = dataset.partition(":")
    place = Path(where.partition("?")[0]).expanduser()
    images = {"folder": place.rglob("*"), "npz": [place]}.get(kind, [])
    own = [] if backbone in INFO and INFO[backbone].package else [Path(backbone)]
    given = [Path(path).expanduser() for path in (*own, split_file) if path is not None]
    files = [*sorted(path for path in images if path.is_file()), *(path for path in given if path.is_file())]
    return hashlib.sha256(json.dumps(fingerprint(path.resolve() for path in files)).encode()).hexdigest()
