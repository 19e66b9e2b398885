"""load: a split of a data set, by name, as a ClassPool."""

import io
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import resources, util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mtl_jax.data import images as files
from mtl_jax.data.images import SPLITS, Labelled, cached, log
from mtl_jax.data.pool import ClassPool


class DatasetInfo(NamedTuple):
    """Facts about a data set.

    Attributes:
        image_shape: (height, width, channels) as loaded without `image_size`.
        classes: how many classes each split has; its keys are the splits there are.
        augment: the augmentation to train with, as `sample_episode` takes it.
        source: "tfds-name:version", or "" where the images are not read through TFDS.
        about: one line for people.
    """

    image_shape: tuple[int, int, int]
    classes: Mapping[str, int]
    augment: str
    source: str
    about: str

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""
        return tuple(self.classes)


DATASETS: Mapping[str, DatasetInfo] = {
    "glyphs": DatasetInfo(
        (28, 28, 1), {"train": 1305, "val": 100, "test": 271}, "rotations", "glyphs:1.0.0",
        "letters of printed scripts, 20 distorted drawings each, split by script; drawn here, nothing to download",
    ),
    "digits": DatasetInfo(
        (28, 28, 1), {"test": 10}, "none", "", "scikit-learn's handwritten digits, a target domain only"
    ),
    "omniglot": DatasetInfo(
        (28, 28, 1), {"train": 1028, "val": 172, "test": 423}, "rotations", "omniglot:3.0.0",
        "1,623 handwritten characters of 50 alphabets, 20 drawings each, the split of Vinyals et al. 2016",
    ),
    "cifar_fs": DatasetInfo(
        (32, 32, 3), {"train": 64, "val": 16, "test": 20}, "flip_crop", "cifar100:3.0.2",
        "CIFAR-100, 600 images a class, the split of Bertinetto et al. 2019",
    ),
    "fc100": DatasetInfo(
        (32, 32, 3), {"train": 60, "val": 20, "test": 20}, "flip_crop", "cifar100:3.0.2",
        "CIFAR-100, 600 images a class, split by superclass as Oreshkin et al. 2018 do",
    ),
}  # fmt: skip


def info(name: str) -> DatasetInfo:
    """Return the facts about a data set, or about the images of "folder:/path".

    Raises:
        ValueError: no data set has this name, or the folder holds no classes.
        FileNotFoundError: there is no such folder.
    """
    if name.startswith("folder:"):
        folders = files.folder_splits(name.removeprefix("folder:"))
        scans = {split: files.scan_classes(folder) for split, folder in folders.items()}
        scan = next(iter(scans.values()))
        return DatasetInfo(
            (84, 84, scan.channels), {split: len(s.files) for split, s in scans.items()}, "flip_crop", "", name
        )
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}, or folder:/path")
    return DATASETS[name]


def available(data_dir: str | os.PathLike[str] | None = None) -> dict[str, bool]:
    """Say for each named data set whether `load` would work now, with nothing to download."""
    return {
        name: name in ("glyphs", "digits") or _is_prepared(_data_root(data_dir), facts.source)
        for name, facts in DATASETS.items()
    }


def load(
    name: str,
    split: str = "train",
    image_size: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    channels: int | None = None,
) -> ClassPool:
    """Load one split of a data set onto the default device.

    Characters (glyphs, digits, omniglot) have ink = 255 on 0. The arrays are kept in the cache folder, so that
    another load of the same takes well under a second.

    Args:
        name: glyphs, digits, omniglot, cifar_fs, fc100, or folder:/path: one sub-folder of images a class, itself
            below train/, val/ and test/ where these exist; else all classes serve every split.
        split: "train", "val" or "test".
        image_size: height and width in pixels; None for the natural size, which for a folder is 84.
        data_dir: where TFDS keeps its data sets; None for $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        cache_dir: None for $MTL_JAX_CACHE, else the user's cache folder.
        channels: 1 (colours become their luma) or 3 (gray becomes three equal channels); None for the images' own,
            which for a folder is 1 if all are gray.

    Returns:
        The pool, images [n, image_size, image_size, channels] uint8.

    Raises:
        ValueError: unknown name or split, a data set that is not prepared, or a folder with an empty class.
        FileNotFoundError: there is no such folder.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel, not {image_size}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if name.startswith("folder:"):
        return _pool(_load_folder(name, split, image_size or 84, channels, cache_dir))
    facts = info(name)
    if split not in facts.classes:
        raise ValueError(f"{name} has no {split} split: choose one of {', '.join(facts.splits)}")
    size = image_size or facts.image_shape[0]
    key: list[Any] = [name, split, size]
    if name == "digits":
        return _pool(cached(f"{name}-{split}-{size}", key, partial(_digits, size), cache_dir), channels)
    root = _find(name, data_dir, cache_dir)
    folder = root / facts.source.replace(":", "/")
    key += [facts.source, sorted((file.name, file.stat().st_size) for file in folder.iterdir())]
    return _pool(cached(f"{name}-{split}-{size}", key, partial(_read, name, split, size, root), cache_dir), channels)


def prepare(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Download a data set and write it as TFDS keeps it; glyphs are drawn instead.

    Args:
        name: a name of `DATASETS`.
        data_dir: where to; None for $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Returns:
        The folder that holds the prepared data set.

    Raises:
        ValueError: the folder cannot be written, TensorFlow is missing, or the download failed.
    """
    source = info(name).source
    if not source:
        raise ValueError(f"{name} needs no preparation: load it")
    root = _data_root(data_dir)
    if _is_prepared(root, source):
        return root / source.replace(":", "/")
    if name != "glyphs" and util.find_spec("tensorflow") is None:
        raise ValueError(_unprepared(name, root))
    if not _writable(root):
        raise ValueError(f"{root} cannot be written: set TFDS_DATA_DIR to a folder that can, or pass data_dir")
    tfds = _tfds(name)
    builder = tfds.builder(source, data_dir=root, try_gcs=False)
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except Exception as error:  # TFDS and its downloader raise of all kinds
        if not _is_prepared(root, source):  # else another process was quicker
            raise ValueError(f"preparing {name} in {root} failed: {' '.join(str(error).split())}") from error
    return root / source.replace(":", "/")


def _pool(data: Labelled, channels: int | None = None) -> ClassPool:
    for note in data.notes:
        log.warning(note)
    return ClassPool.from_arrays(files.recolour(data.images, channels), data.labels, data.names)


def _data_root(data_dir: str | os.PathLike[str] | None) -> Path:
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _is_prepared(root: Path, source: str) -> bool:
    return (root / source.replace(":", "/") / "dataset_info.json").is_file()


def _writable(folder: Path) -> bool:
    """Whether files can be made below: also for root, write bits taken away mean no."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def _unprepared(name: str, root: Path) -> str:
    return (
        f"{name} is not prepared in {root}: set TFDS_DATA_DIR to a folder where TFDS has prepared "
        f'{DATASETS[name].source}, or install TensorFlow (pip install "mtl_jax[prepare]") and run '
        f"mtl-jax datasets prepare {name}"
    )


def _find(name: str, data_dir: str | os.PathLike[str] | None, cache_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of TFDS data sets that holds this one; glyphs are drawn where no folder does."""
    root, source = _data_root(data_dir), DATASETS[name].source
    if _is_prepared(root, source):
        return root
    if name != "glyphs":
        raise ValueError(_unprepared(name, root))
    if not _writable(root):
        root = files.cache_folder(cache_dir) / "tfds"
    prepare(name, root)
    return root


def _tfds(name: str) -> Any:
    """TFDS, which takes a moment to import, with our own builder registered where it is asked for."""
    import tensorflow_datasets as tfds

    if name == "glyphs":
        import mtl_jax.data.glyphs  # noqa: F401
    return tfds


def _read(name: str, split: str, size: int, root: Path) -> Labelled:
    """Read a split of a prepared data set with TFDS, without TensorFlow."""
    tfds = _tfds(name)
    builder = tfds.builder(DATASETS[name].source, data_dir=root, try_gcs=False)
    # Skipping TFDS's own decoding saves the images of other splits, and gives the file's own mode.
    source = builder.as_data_source(decoders={"image": tfds.decode.SkipDecoding()})
    shape = DATASETS[name].image_shape
    images, labels, names = [], [], {}
    for png, label, class_name in _records(name, split, source, builder.info.features):
        picture = Image.open(io.BytesIO(png))
        images.append(files.to_array(picture, size, shape[2], invert=name == "omniglot"))
        labels.append(label)
        names[label] = class_name
    order = sorted(names)
    number = {label: i for i, label in enumerate(order)}
    numbers = np.asarray([number[label] for label in labels], np.int32)
    by_class = np.argsort(numbers, kind="stable")
    return Labelled(np.stack(images)[by_class], numbers[by_class], tuple(names[label] for label in order))


def _records(name: str, split: str, source: Any, features: Any) -> Iterator[tuple[bytes, int, str]]:
    """The image file, label and class name of every record of a published split."""
    label_name = features["label"].int2str
    if name == "glyphs":
        for record in _batched(source[split]):
            yield record["image"], record["label"], label_name(record["label"])
        return
    wanted = frozenset(json.loads(resources.files("mtl_jax.data").joinpath(f"splits/{name}.json").read_text())[split])
    for part in ("train", "test"):  # TFDS's own split is another: by alphabet, or by image
        for record in _batched(source[part]):
            label = record["label"]
            if name == "omniglot":
                if label in wanted:
                    alphabet = features["alphabet"].int2str(record["alphabet"])
                    yield record["image"], label, f"{alphabet}/{record['alphabet_char_id']}"
            else:
                fine = label_name(label)
                group = fine if name == "cifar_fs" else features["coarse_label"].int2str(record["coarse_label"])
                if group in wanted:
                    yield record["image"], label, fine


def _batched(source: Any, size: int = 4096) -> Iterator[Any]:
    """Every record of a source, in batches: array_record reads these several times faster than one at a time."""
    for first in range(0, len(source), size):
        yield from source.__getitems__(range(first, min(first + size, len(source))))


def _digits(size: int) -> Labelled:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return Labelled(files.resize(images, size), bunch.target.astype(np.int32), tuple("0123456789"))


def _load_folder(
    name: str, split: str, size: int, channels: int | None, cache_dir: str | os.PathLike[str] | None
) -> Labelled:
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels}")
    folders = files.folder_splits(name.removeprefix("folder:"))
    if split not in folders:
        raise ValueError(f"{name} has no {split}/ with sub-folders: choose one of {', '.join(folders)}")
    scan = files.scan_classes(folders[split])
    key = ["folder", size, channels, scan.fingerprint]
    return cached("folder", key, partial(files.read_classes, scan, size, channels or scan.channels), cache_dir)
