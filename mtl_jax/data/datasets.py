"""load: a split of a data set, by name or by "kind:where", as a ClassPool. Each is a module of `mtl_jax.data.sets`."""

import difflib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from mtl_jax.data import pixels
from mtl_jax.data.pool import ClassPool
from mtl_jax.data.sets import (
    arrays,
    audio,
    cifar,
    class_splits,
    digits,
    folder,
    glyphs,
    mini_imagenet,
    omniglot,
    table,
    tfds,
)
from mtl_jax.data.sets.source import DatasetInfo as DatasetInfo
from mtl_jax.data.sets.source import Format, Named, Request
from mtl_jax.data.tree import SPLITS

NAMED: Mapping[str, Named] = {
    "glyphs": glyphs,
    "digits": digits,
    "omniglot": omniglot,
    "cifar_fs": cifar,
    "fc100": cifar,
    "mini_imagenet": mini_imagenet,
}
FORMATS: Mapping[str, Format] = {"folder": folder, "npz": arrays, "csv": table, "wav": audio, "tfds": tfds}

DATASETS: Mapping[str, DatasetInfo] = {name: module.FACTS[name] for name, module in NAMED.items()}
KINDS: Mapping[str, str] = {kind: module.ABOUT for kind, module in FORMATS.items()}

Folder = str | os.PathLike[str]

log = logging.getLogger(__name__)


def info(name: str, split_file: Folder | None = None) -> DatasetInfo:
    """Return the facts about a data set, or about the files of "kind:where".

    Raises:
        ValueError: no data set has this name, or the files hold no classes.
        FileNotFoundError: there is no such file or folder.
    """
    request, module = _resolve(name)
    if request.where in DATASETS and module is NAMED.get(request.where):
        facts = DATASETS[request.where]
        if split_file is None:
            return facts
        return facts._replace(classes={k: len(v) for k, v in class_splits.read_split_file(split_file).items()})
    found = module.open_set(request)
    classes = class_splits.classes_of(found, split_file, _seed(request))
    return DatasetInfo(found.input_shape, classes, found.augment, "", name)


def available(data_dir: Folder | None = None) -> dict[str, bool]:
    """Say for each named data set whether `load` would work now, with nothing to download."""
    return {name: module.available(name, data_dir) for name, module in NAMED.items()}


def load(
    name: str,
    split: str = "train",
    image_size: int | None = None,
    data_dir: Folder | None = None,
    cache_dir: Folder | None = None,
    channels: int | None = None,
    host: bool = False,
    split_file: Folder | None = None,
) -> ClassPool:
    """Load one split of a data set onto the default device.

    Characters (glyphs, digits, omniglot) have ink = 255 on 0. Arrays are kept in the cache folder, so that another
    load of the same takes well under a second.

    Args:
        name: a name of `DATASETS`, or a kind of `KINDS` and where: "folder:/path", "npz:/file.npz", "csv:/file.csv",
            "wav:/path", "tfds:NAME". Options of a kind stand behind it: "csv:/file.csv?label=kind&seed=1",
            "folder:/path?group=REGEX".
        split: "train", "val" or "test". Where a folder or file has no splits of its own, its classes are split
            64/16/20 by a seed (option seed, 0), which a warning says; fewer than ten classes are every split's.
        image_size: height and width in pixels, of images; None for the natural size, which for a folder is 84.
        data_dir: where TFDS keeps its data sets; None for $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        cache_dir: None for $MTL_JAX_CACHE, else the user's cache folder.
        channels: 1 (colours become their luma) or 3 (gray becomes three equal channels), of images; None for the
            images' own, which for a folder is 1 if all are gray.
        host: leave the inputs in the host's memory, or in the file they are mapped from (mini_imagenet).
        split_file: JSON {"train": [class names], "val": [...], "test": [...]}, in place of the data set's own splits.

    Returns:
        The pool: images [n, image_size, image_size, channels] uint8, or what else the files hold.

    Raises:
        ValueError: unknown name, option or split, a data set that is not prepared, or files that cannot be used.
        FileNotFoundError: there is no such file or folder.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel, not {image_size}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels}")
    request, module = _resolve(name)
    request = request._replace(image_size=image_size, channels=channels, data_dir=data_dir, cache_dir=cache_dir)
    facts = DATASETS.get(name)
    if facts is not None and split_file is None and split not in facts.classes:
        raise ValueError(f"{name} has no {split} split: choose one of {', '.join(facts.splits)}")
    found = module.open_set(request)
    shape = tuple(found.input_shape)
    as_asked = len(shape) == 3 and shape[:2] == 2 * (image_size or shape[0],) and shape[2] == (channels or shape[2])
    if not found.images and (image_size or channels) and not as_asked:
        raise ValueError(
            f"{name} has no images but inputs {list(found.input_shape)}: leave out image_size and channels"
        )
    data = class_splits.read_split(found, name, split, split_file, _seed(request))
    for note in (*found.notes, *data.notes):
        log.warning(note)
    x = pixels.recolour(data.x, channels) if found.images else data.x
    return ClassPool.from_arrays(x, data.labels, data.names, host, f"{name} {split}", data.groups)


def prepare(name: str, data_dir: Folder | None = None, source: Folder | None = None) -> Path:
    """Make a named data set ready to load: draw it, download it through TFDS, or check and pack the files you have.

    Args:
        name: a name of `DATASETS`.
        data_dir: where to; None for $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        source: the folder that holds the files, for mini_imagenet.

    Returns:
        The folder that holds the prepared data set.

    Raises:
        ValueError: the folder cannot be written, TensorFlow is missing, the download failed, or files are missing.
        FileNotFoundError: there is no folder `source`.
    """
    if name not in NAMED:
        raise ValueError(_unknown(name))
    if source is not None and name != "mini_imagenet":
        raise ValueError(f"{name} is not made from a folder of yours: leave out the source")
    return NAMED[name].prepare(name, data_dir, source)


def _resolve(name: str) -> tuple[Request, Named | Format]:
    """The module that reads a data set, and what is asked of it."""
    if name in NAMED:
        return Request(name, name), NAMED[name]
    kind, colon, where = name.partition(":")
    if not colon or kind not in FORMATS:
        raise ValueError(_unknown(name))
    module = FORMATS[kind]
    options: dict[str, str] = {}
    base, mark, query = where.rpartition("?")
    if mark and "=" in query:
        pairs = (part.partition("=") for part in query.split("&"))
        where, options = base, {unquote(key): unquote(value) for key, _, value in pairs}
    if not where:
        raise ValueError(f"{name} says not where: give {kind}:/path")
    if strange := sorted(set(options) - set(module.OPTIONS)):
        raise ValueError(f"{kind} has no option {strange[0]!r}: choose from {', '.join(module.OPTIONS)}")
    return Request(name, where, options), module


def _seed(request: Request) -> int:
    said = request.options.get("seed", "0")
    if not said.isdecimal():
        raise ValueError(f"seed must be a whole number from 0, not {said!r}")
    return int(said)


def _unknown(name: str) -> str:
    """One line: there is no such data set, and which one may have been meant."""
    path, kinds = Path(name).expanduser(), {".npz": "npz", ".csv": "csv"}
    if path.is_dir():
        return f"unknown data set {name!r}: for a folder of images say folder:{name}"
    if path.is_file() and path.suffix in kinds:
        return f"unknown data set {name!r}: for this file say {kinds[path.suffix]}:{name}"
    kind, colon, where = name.partition(":")
    near = difflib.get_close_matches(kind, FORMATS if colon else NAMED, 1)
    hint = f"did you mean {near[0] + colon + where!r}? " if near else ""
    return (
        f"unknown data set {name!r}: {hint}choose one of {', '.join(NAMED)}, or {', '.join(f'{k}:' for k in FORMATS)}"
    )
