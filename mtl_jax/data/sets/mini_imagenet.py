"""mini_imagenet: 100 ImageNet classes of 600 photographs at 84x84, Ravi and Larochelle's split, from JPEGs you have."""

import json
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mtl_jax.data import pixels
from mtl_jax.data.cache import Labelled, cache_folder, cached
from mtl_jax.data.sets.class_splits import published
from mtl_jax.data.sets.source import DataSet, DatasetInfo, Part, Request
from mtl_jax.data.sets.tfds import data_root, is_writable
from mtl_jax.data.tree import SPLITS, files_below

SIZE, EACH = 84, 600  # pixels; photographs per class
FACTS = {
    "mini_imagenet": DatasetInfo(
        image_shape=(SIZE, SIZE, 3),
        classes={"train": 64, "val": 16, "test": 20},
        augment="flip_crop",
        source="",
        about="100 classes of ImageNet, 600 photographs per class, the split of Ravi and Larochelle 2017",
        size="60,000 photographs, 84x84",
        licence="ImageNet's terms: non-commercial research and education; its authors do not own the photographs",
        get="get the JPEGs (n*.jpg in any folders), then mtl-jax datasets prepare mini_imagenet --from FOLDER",
    )
}
CLASS = re.compile(r"n\d{8}")
SUFFIXES = frozenset((".jpg", ".jpeg", ".png"))


def open_set(request: Request) -> DataSet:
    """Find the prepared array; a split of it is a view into the file, not a copy.

    Raises:
        ValueError: it is not prepared.
    """
    folder = _prepared(request.data_dir, request.cache_dir)
    if folder is None:
        where = data_root(request.data_dir)
        raise ValueError(f"mini_imagenet is in neither {where} nor the cache: {FACTS['mini_imagenet'].get}")
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    size = request.image_size or SIZE

    def read(split: str, wanted: frozenset[str] | None = None) -> Labelled:
        names, (first, last) = tuple(index["names"][split]), index["rows"][split]
        x = np.load(folder / "images.npy", mmap_mode="r")[first:last]
        return Labelled(x, np.repeat(np.arange(len(names), dtype=np.int32), len(x) // len(names)), names)

    def resized(split: str, wanted: frozenset[str] | None = None) -> Labelled:
        whole = read(split)
        if size == SIZE:
            return whole

        def make() -> Labelled:
            return whole._replace(x=pixels.resize(whole.x, size))

        key = ["mini_imagenet", split, size, (folder / "images.npy").stat().st_mtime_ns]
        return cached(f"mini_imagenet-{split}-{size}", key, make, request.cache_dir)

    parts = {split: Part(tuple(index["names"][split]), partial(resized, split)) for split in SPLITS}
    return DataSet(parts, (size, size, 3), augment="flip_crop")


def available(name: str, data_dir: str | os.PathLike[str] | None) -> bool:
    """Whether it has been prepared."""
    return _prepared(data_dir, None) is not None


def prepare(name: str, data_dir: str | os.PathLike[str] | None, source: str | os.PathLike[str] | None) -> Path:
    """Check a folder tree of the photographs and write them as one array, by split and class.

    Args:
        name: "mini_imagenet".
        data_dir: where to; None for where TFDS keeps its data sets, or the cache if that cannot be written.
        source: any folder tree of the JPEGs; a file is of the class whose WordNet id begins its name, else of the
            class that a folder above it is named after. Files of one name are one photograph.

    Returns:
        The folder that holds images.npy [60000, 84, 84, 3] uint8, which can be memory-mapped, and index.json.

    Raises:
        ValueError: `source` is not given, or lacks photographs, or has too many, or one cannot be read.
        FileNotFoundError: there is no folder `source`.
    """
    if (done := _prepared(data_dir, None)) is not None and source is None:
        return done
    if source is None:
        raise ValueError(f"say where the photographs are: {FACTS[name].get}")
    splits, files = published("mini_imagenet"), _photographs(Path(source).expanduser())
    names = {split: sorted(splits[split]) for split in SPLITS}
    _check_whole(files, names, Path(source))
    root = data_root(data_dir)
    root = root if is_writable(root) else cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=root, prefix="mini_imagenet-", suffix=".tmp"))
    try:
        ordered = [path for split in SPLITS for name in names[split] for path in files[name]]
        _write(ordered, temporary / "images.npy")
        ends = np.cumsum([0, *(len(names[split]) * EACH for split in SPLITS)]).tolist()
        rows = {split: ends[i : i + 2] for i, split in enumerate(SPLITS)}
        index = json.dumps({"names": names, "rows": rows})
        (temporary / "index.json").write_text(index, encoding="utf-8")
        final = root / "mini_imagenet"
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def _prepared(data_dir: str | os.PathLike[str] | None, cache_dir: str | os.PathLike[str] | None) -> Path | None:
    for root in (data_root(data_dir), cache_folder(cache_dir)):
        if (root / "mini_imagenet" / "index.json").is_file():
            return root / "mini_imagenet"
    return None


def _photographs(root: Path) -> dict[str, list[Path]]:
    """Each class's files in the order of their names, each name once."""
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: give one that holds the JPEGs of mini-ImageNet")
    found: dict[str, dict[str, Path]] = {}
    for path in files_below(root, SUFFIXES):
        folders = reversed(path.relative_to(root).parts)
        if match := next((m for part in folders if (m := CLASS.match(part))), None):
            found.setdefault(match[0], {}).setdefault(path.name, path)
    return {name: [by_name[key] for key in sorted(by_name)] for name, by_name in found.items()}


def _check_whole(files: dict[str, list[Path]], names: dict[str, list[str]], root: Path) -> None:
    """Raise ValueError, which names the first classes that are not there or not whole."""
    wrong = [
        f"{name} ({split}) has {len(files.get(name, []))}"
        for split in SPLITS
        for name in names[split]
        if len(files.get(name, [])) != EACH
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more classes" if len(wrong) > 5 else ""
        raise ValueError(
            f"{root} is not the whole of mini-ImageNet, 64/16/20 classes of {EACH}: {', '.join(wrong[:5])}{more}; "
            "add what is missing, leave out what is too many"
        )


def _write(paths: list[Path], file: Path) -> None:
    """Decode all files into one array on disk; threads, as decoding leaves Python's lock."""
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (len(paths), SIZE, SIZE, 3))

    def decode(row: int) -> None:
        try:
            with Image.open(paths[row]) as picture:
                images[row] = pixels.to_array(picture, SIZE, 3)
        except Exception as error:  # Pillow's plugins raise of all kinds on damaged files
            raise ValueError(f"{paths[row]} cannot be read ({error}): replace it") from error

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(decode, range(len(paths))):
            pass
    images.flush()
