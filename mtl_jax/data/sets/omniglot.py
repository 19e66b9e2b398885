"""omniglot: handwritten characters, the split of Vinyals et al. 2016, read through TFDS."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mtl_jax.data.cache import Labelled, cached
from mtl_jax.data.sets import tfds
from mtl_jax.data.sets.class_splits import published
from mtl_jax.data.sets.source import DataSet, DatasetInfo, Part, Request

FACTS = {
    "omniglot": DatasetInfo(
        image_shape=(28, 28, 1),
        classes={"train": 1028, "val": 172, "test": 423},
        augment="rotations",
        source="omniglot:3.0.0",
        about="1,623 handwritten characters of 50 alphabets, 20 drawings each, the split of Vinyals et al. 2016",
        size="32,460 drawings, 105x105 resized to 28x28",
        licence="MIT",
        get='pip install "mtl_jax[prepare]" and mtl-jax datasets prepare omniglot (9 MB), or a TFDS_DATA_DIR with it',
    )
}
SOURCE = FACTS["omniglot"].source


def open_set(request: Request) -> DataSet:
    """Find Omniglot; ValueError where TFDS has not prepared it."""
    folder = tfds.prepared_root("omniglot", SOURCE, request.data_dir) / SOURCE.replace(":", "/")
    size = request.image_size or 28

    def part(split: str) -> Part:
        key = tfds.cache_key(request, folder, split, size)
        make = partial(_read, folder, split, size)
        return Part((), lambda _: cached(f"omniglot-{split}-{size}", key, make, request.cache_dir))

    return DataSet({split: part(split) for split in FACTS["omniglot"].classes}, (size, size, 1), augment="rotations")


def available(name: str, data_dir: str | os.PathLike[str] | None) -> bool:
    """Whether TFDS has prepared it."""
    return tfds.is_prepared(tfds.data_root(data_dir), SOURCE)


def prepare(name: str, data_dir: str | os.PathLike[str] | None, source: str | os.PathLike[str] | None) -> Path:
    """Download it and write it as TFDS keeps it; return its folder."""
    return tfds.prepare_with_tfds(name, SOURCE, data_dir)


def _read(folder: Path, split: str, size: int) -> Labelled:
    return tfds.to_labelled(_records(folder, split), size, 1, invert=True)


def _records(folder: Path, split: str) -> Iterator[tfds.Record]:
    wanted = frozenset(published("omniglot")[split])
    features, source = tfds.read_source(folder)
    for part in ("train", "test"):  # TFDS's own split is another: by alphabet
        for record in tfds.batched(source[part]):
            if record["label"] in wanted:
                alphabet = features["alphabet"].int2str(record["alphabet"])
                yield record["image"], record["label"], f"{alphabet}/{record['alphabet_char_id']}"
