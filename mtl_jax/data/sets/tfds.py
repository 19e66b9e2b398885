"""tfds:NAME: any classification set that TFDS has prepared, read without TensorFlow; and what our own sets share."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mtl_jax.data import pixels
from mtl_jax.data.cache import Labelled, by_class, cached
from mtl_jax.data.sets.source import ANY_SPLIT, DataSet, Part, Request

ABOUT = "tfds:NAME[:VERSION]  a classification set that TFDS has prepared as array_record; classes split 64/16/20"
OPTIONS = {"seed": "of the draw that splits the classes (0)"}

Record = tuple[bytes, int, str]  # an image file, its label, its class's name


def data_root(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where TFDS keeps its data sets: `data_dir`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def is_prepared(root: Path, source: str) -> bool:
    """Whether TFDS has prepared "name:version" below `root`."""
    return (root / source.replace(":", "/") / "dataset_info.json").is_file()


def is_writable(folder: Path) -> bool:
    """Whether files can be made below: also for root, write bits taken away mean no."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def prepared_root(name: str, source: str, data_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of TFDS data sets that holds this one.

    Raises:
        ValueError: it is not prepared.
    """
    root = data_root(data_dir)
    if not is_prepared(root, source):
        raise ValueError(_unprepared(name, source, root))
    return root


def prepare_with_tfds(name: str, source: str, data_dir: str | os.PathLike[str] | None, download: bool = True) -> Path:
    """Write a data set as TFDS keeps it; return the folder that holds it.

    Raises:
        ValueError: the folder cannot be written, TensorFlow is missing, or the download failed.
    """
    root = data_root(data_dir)
    if is_prepared(root, source):
        return root / source.replace(":", "/")
    if download and util.find_spec("tensorflow") is None:
        raise ValueError(_unprepared(name, source, root))
    if not is_writable(root):
        raise ValueError(f"{root} cannot be written: set TFDS_DATA_DIR to a folder that can, or pass data_dir")
    import tensorflow_datasets as tfds

    builder = tfds.builder(source, data_dir=root, try_gcs=False)
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    # Standard output is for results alone; of what is drawn here TFDS would say that it is downloaded.
    said, bars = (sys.stderr, sys.stderr.isatty()) if download else (io.StringIO(), False)
    if not bars:
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(said):
            builder.download_and_prepare(download_config=config, file_format="array_record")
    except Exception as error:  # TFDS and its downloader raise of all kinds
        if not is_prepared(root, source):  # else another process was quicker
            raise ValueError(f"preparing {name} in {root} failed: {' '.join(str(error).split())}") from error
    finally:
        tfds.enable_progress_bar()
    return root / source.replace(":", "/")


def read_source(folder: Path) -> tuple[Any, Any]:
    """A prepared data set's features, and its splits as sequences of records whose images are still files' bytes.

    Raises:
        ValueError: it was not prepared as array_record.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    # Skipping TFDS's own decoding saves the images of other splits, and gives the file's own mode.
    skip = {
        k: tfds.decode.SkipDecoding() for k, f in builder.info.features.items() if isinstance(f, tfds.features.Image)
    }
    if builder.info.file_format is not None and builder.info.file_format.value != "array_record":
        raise ValueError(f"{folder} was prepared as {builder.info.file_format.value}: prepare it as array_record")
    return builder.info.features, builder.as_data_source(decoders=skip or None)


def batched(source: Any, size: int = 4096) -> Iterator[Any]:
    """Every record of a source, in batches: array_record reads these several times faster than one at a time."""
    for first in range(0, len(source), size):
        yield from source.__getitems__(range(first, min(first + size, len(source))))


def to_labelled(records: Iterable[Record], size: int, channels: int, invert: bool = False) -> Labelled:
    """Decode image files into Labelled, classes in the order of their labels."""
    images, labels, names = [], [], {}
    for file, label, name in records:
        images.append(pixels.to_array(Image.open(io.BytesIO(file)), size, channels, invert=invert))
        labels.append(label)
        names[label] = name
    order = sorted(names)
    number = {label: i for i, label in enumerate(order)}
    numbers = np.asarray([number[label] for label in labels], np.int32)
    return by_class(np.stack(images), numbers, tuple(names[label] for label in order))


def cache_key(request: Request, folder: Path, *more: object) -> list[object]:
    """What an array read from a prepared data set hangs on."""
    return [request.name, *more, str(folder.name), sorted((f.name, f.stat().st_size) for f in folder.iterdir())]


def open_set(request: Request) -> DataSet:
    """Find a prepared set, and among its features an input and a class label.

    Raises:
        ValueError: it is not prepared, or has no class label, or no image or numbers to go with it.
    """
    import tensorflow_datasets as tfds

    folder = _version_folder(data_root(request.data_dir), request.where)
    info = tfds.builder_from_directory(folder).info
    # TFDS gives features in no lasting order; of several, those of the usual names come first
    features = dict(sorted(info.features.items(), key=lambda kv: (kv[0] not in ("image", "label"), kv[0])))
    inputs, label = info.supervised_keys[:2] if info.supervised_keys else (None, None)
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    if not isinstance(label, str) or label not in labels:
        if not labels:
            raise ValueError(f"{request.name} has no class label among {', '.join(features)}: it cannot give classes")
        label = labels[0]
    usable = [k for k, f in features.items() if k != label and _kind(tfds, f)]
    if not isinstance(inputs, str) or inputs not in usable:
        if not usable:
            raise ValueError(f"{request.name} has no image or numbers among {', '.join(features)}: export it to npz")
        inputs = usable[0]
    shape, names = features[inputs].shape, tuple(features[label].names)
    if _kind(tfds, features[inputs]) == "image":
        natural = shape[0] if shape[0] and shape[0] == shape[1] else 84
        size, channels = request.image_size or natural, shape[2] if shape[2] in (1, 3) else 3
        make = partial(_read, folder, inputs, label, size, channels)
        shape = (size, size, channels)
    else:
        make, size = partial(_read, folder, inputs, label, None, 0), 0
    key = cache_key(request, folder, "tfds", size)
    part = Part(names, lambda _: cached("tfds", key, make, request.cache_dir))
    return DataSet({ANY_SPLIT: part}, tuple(shape), images=size > 0)


def _read(folder: Path, inputs: str, label: str, size: int | None, channels: int) -> Labelled:
    """All the splits that TFDS has, pooled: a few-shot task is split by class, not by input."""
    features, source = read_source(folder)
    name = features[label].int2str
    records = (record for split in source.values() for record in batched(split) if record[label] >= 0)
    if size is not None:
        return to_labelled(((r[inputs], int(r[label]), name(r[label])) for r in records), size, channels)
    x, y = zip(*((np.asarray(r[inputs]), int(r[label])) for r in records), strict=True)
    return by_class(np.stack(x), np.asarray(y), tuple(features[label].names))


def _kind(tfds: Any, feature: Any) -> str:
    if isinstance(feature, tfds.features.Image):
        return "image"
    plain = type(feature) in (tfds.features.Tensor, tfds.features.Scalar)
    fixed = plain and feature.shape and all(feature.shape) and np.issubdtype(np.dtype(feature.np_dtype), np.number)
    return "numbers" if fixed else ""


def _version_folder(root: Path, name: str) -> Path:
    """The folder of "name", "name/config" or either with ":version"; of several versions the newest."""
    name, _, version = name.partition(":")
    base = root / name
    pattern = f"{version}/dataset_info.json" if version else "*/dataset_info.json"
    found = [file.parent for file in base.glob(pattern)]
    if not found:
        below = sorted({str(f.parent.parent.relative_to(root)) for f in base.glob("*/*/dataset_info.json")})
        choose = f": choose one of {', '.join(below)}" if below else f": TFDS has not prepared it in {root}"
        have = sorted({str(f.parent.parent.relative_to(root)) for f in root.glob("*/*/dataset_info.json")})
        more = "" if below or not have else f", which has {', '.join(have)}"
        raise ValueError(f"no data set {name}{':' * bool(version)}{version}{choose}{more}")
    return max(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


def _unprepared(name: str, source: str, root: Path) -> str:
    return (
        f"{name} is not prepared in {root}: set TFDS_DATA_DIR to a folder where TFDS has prepared "
        f'{source}, or install TensorFlow (pip install "mtl_jax[prepare]") and run '
        f"mtl-jax datasets prepare {name}"
    )
