"""glyphs: printed letters drawn as if by hand, split by script; drawn on this machine by `glyphs_builder`."""

import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mtl_jax.data.cache import Labelled, cache_folder, cached
from mtl_jax.data.sets import tfds
from mtl_jax.data.sets.source import DataSet, DatasetInfo, Part, Request

log = logging.getLogger(__name__)

FACTS = {
    "glyphs": DatasetInfo(
        image_shape=(28, 28, 1),
        classes={"train": 1305, "val": 100, "test": 271},
        augment="rotations",
        source="glyphs:1.0.0",
        about="letters of printed scripts, 20 distorted drawings each, split by script",
        size="33,520 drawings, 28x28",
        licence="Apache-2.0, as this package; outlines of the DejaVu fonts (Bitstream Vera licence)",
        get="drawn here at the first load (a minute), nothing to download",
    )
}
SOURCE = FACTS["glyphs"].source


def open_set(request: Request) -> DataSet:
    """Find the drawings, or draw them: where TFDS keeps its data if that can be written, else in the cache."""
    root, size = tfds.data_root(request.data_dir), request.image_size or 28
    if not tfds.is_prepared(root, SOURCE):
        root = root if tfds.is_writable(root) else cache_folder(request.cache_dir) / "tfds"
        prepare("glyphs", root, None)
    folder = root / SOURCE.replace(":", "/")

    def part(split: str) -> Part:
        key = tfds.cache_key(request, folder, split, size)
        make = partial(_read, folder, split, size)
        return Part((), lambda _: cached(f"glyphs-{split}-{size}", key, make, request.cache_dir))

    return DataSet({split: part(split) for split in FACTS["glyphs"].classes}, (size, size, 1), augment="rotations")


def available(name: str, data_dir: str | os.PathLike[str] | None) -> bool:
    """Always: they are drawn where they are missing."""
    return True


def prepare(name: str, data_dir: str | os.PathLike[str] | None, source: str | os.PathLike[str] | None) -> Path:
    """Draw them and write them as TFDS keeps data sets; return their folder."""
    if not tfds.is_prepared(tfds.data_root(data_dir), SOURCE):
        import mtl_jax.data.sets.glyphs_builder  # noqa: F401  # TFDS then knows it by its name

        log.warning("drawing the glyphs, once, into %s: half a minute", tfds.data_root(data_dir))
    return tfds.prepare_with_tfds(name, SOURCE, data_dir, download=False)


def _read(folder: Path, split: str, size: int) -> Labelled:
    return tfds.to_labelled(_records(folder, split), size, 1)


def _records(folder: Path, split: str) -> Iterator[tfds.Record]:
    features, source = tfds.read_source(folder)
    for record in tfds.batched(source[split]):
        yield record["image"], record["label"], features["label"].int2str(record["label"])
