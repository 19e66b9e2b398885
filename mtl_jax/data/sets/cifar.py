"""cifar_fs and fc100: CIFAR-100 split by class and by superclass, read through TFDS."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mtl_jax.data.cache import Labelled, cached
from mtl_jax.data.sets import tfds
from mtl_jax.data.sets.class_splits import published
from mtl_jax.data.sets.source import DataSet, DatasetInfo, Part, Request

SOURCE = "cifar100:3.0.2"
_SHARED = {
    "image_shape": (32, 32, 3),
    "augment": "flip_crop",
    "source": SOURCE,
    "size": "60,000 photographs, 32x32",
    "licence": "none stated by its authors, who ask for Krizhevsky 2009 to be cited",
    "get": 'pip install "mtl_jax[prepare]" and mtl-jax datasets prepare cifar_fs (160 MB), or a TFDS_DATA_DIR with it',
}
FACTS = {
    "cifar_fs": DatasetInfo(
        classes={"train": 64, "val": 16, "test": 20},
        about="CIFAR-100, 600 images per class, the split of Bertinetto et al. 2019",
        **_SHARED,  # type: ignore[arg-type]
    ),
    "fc100": DatasetInfo(
        classes={"train": 60, "val": 20, "test": 20},
        about="CIFAR-100, 600 images per class, split by superclass as Oreshkin et al. 2018 do",
        **_SHARED,  # type: ignore[arg-type]
    ),
}
LABEL = {"cifar_fs": "label", "fc100": "coarse_label"}  # which of CIFAR-100's labels the published lists name


def open_set(request: Request) -> DataSet:
    """Find CIFAR-100 under one of its splits; ValueError where TFDS has not prepared it."""
    name, size = request.where, request.image_size or 32
    folder = tfds.prepared_root(name, SOURCE, request.data_dir) / SOURCE.replace(":", "/")

    def part(split: str) -> Part:
        key = tfds.cache_key(request, folder, split, size)
        make = partial(_read, folder, name, split, size)
        return Part((), lambda _: cached(f"{name}-{split}-{size}", key, make, request.cache_dir))

    return DataSet({split: part(split) for split in FACTS[name].classes}, (size, size, 3), augment="flip_crop")


def available(name: str, data_dir: str | os.PathLike[str] | None) -> bool:
    """Whether TFDS has prepared it."""
    return tfds.is_prepared(tfds.data_root(data_dir), SOURCE)


def prepare(name: str, data_dir: str | os.PathLike[str] | None, source: str | os.PathLike[str] | None) -> Path:
    """Download it and write it as TFDS keeps it; return its folder."""
    return tfds.prepare_with_tfds(name, SOURCE, data_dir)


def _read(folder: Path, name: str, split: str, size: int) -> Labelled:
    return tfds.to_labelled(_records(folder, name, split), size, 3)


def _records(folder: Path, name: str, split: str) -> Iterator[tfds.Record]:
    wanted = frozenset(published(name)[split])
    features, source = tfds.read_source(folder)
    group = LABEL[name]
    for part in ("train", "test"):  # TFDS's own split is another: by image
        for record in tfds.batched(source[part]):
            if features[group].int2str(record[group]) in wanted:
                yield record["image"], record["label"], features["label"].int2str(record["label"])
