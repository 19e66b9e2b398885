"""npz:/file.npz: arrays x, y and names, as numpy.savez writes them; images, features or tokens."""

import zipfile
from pathlib import Path

import numpy as np

from mtl_jax.data import pixels
from mtl_jax.data.cache import Labelled
from mtl_jax.data.pool import check_finite
from mtl_jax.data.sets.source import ANY_SPLIT, DataSet, Part, Request
from mtl_jax.data.tree import SPLITS

ABOUT = (
    "npz:/file.npz  arrays x [n, ...], y [n] (numbers or words), names [classes] and split [n] (train, val, test), or "
    "x_train, y_train, x_val, ...; groups [n] of what is never in support and query of one task; without splits "
    "classes are split 64/16/20"
)
OPTIONS = {"seed": "of the draw that splits the classes (0), where the file has no splits"}


def open_set(request: Request) -> DataSet:
    """Read the arrays of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no .npz file, holds Python objects, or lacks x or y.
    """
    path = Path(request.where).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give an .npz file with arrays x and y")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"cannot read {path}: it is no .npz file; save x and y with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        said = "it holds Python objects: save x as numbers, y and names as numbers or strings"
        raise ValueError(f"cannot read {path}: {said if 'pickle' in str(error) else error}") from error
    pieces = {
        split: (arrays[f"x_{split}"], arrays[f"y_{split}"], arrays.get(f"groups_{split}"))
        for split in SPLITS
        if _has(arrays, split, path)
    }
    if not pieces:
        if "x" not in arrays or "y" not in arrays:
            raise ValueError(f"{path} has {', '.join(arrays) or 'nothing'}: it needs arrays x and y")
        pieces = _by_split(arrays, path)
    for name, x in arrays.items():
        if x.dtype.kind == "f":
            try:
                check_finite(x)
            except ValueError as error:
                raise ValueError(f"{path}: {name}{str(error).removeprefix('x')}") from error
    first = next(iter(pieces.values()))[0]
    images = first.dtype in (np.uint8, np.bool_)
    names = arrays.get("names")
    parts = {split: _part(path, x, y, of, names, request, images) for split, (x, y, of) in pieces.items()}
    shape = first.shape[1:] if not images or first.ndim == 4 else (*first.shape[1:], 1)
    if images and request.image_size:
        shape = (request.image_size, request.image_size, shape[-1])
    return DataSet(parts, shape, images=images)


def _has(arrays: dict[str, np.ndarray], split: str, path: Path) -> bool:
    has = [f"{part}_{split}" in arrays for part in "xy"]
    if has[0] != has[1]:
        raise ValueError(f"{path} has only one of x_{split} and y_{split}: it needs both")
    return all(has)


def _by_split(arrays: dict[str, np.ndarray], path: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    x, y, groups = arrays["x"], arrays["y"], arrays.get("groups")
    if "split" not in arrays:
        return {ANY_SPLIT: (x, y, groups)}
    if groups is not None and groups.shape != y.shape:
        raise ValueError(f"{path}: groups {groups.shape} and y {y.shape} do not fit: want [n], [n]")
    split = arrays["split"].astype(str)
    if split.shape != x.shape[:1] or y.shape != x.shape[:1]:
        raise ValueError(
            f"{path}: x {x.shape}, y {y.shape} and split {split.shape} do not fit: want x [n, ...], [n], [n]"
        )
    if strange := sorted({str(name) for name in split} - set(SPLITS)):
        raise ValueError(f"{path} has a split {strange[0]!r}: name them {', '.join(SPLITS)}")
    rows = {name: split == name for name in SPLITS if (split == name).any()}
    return {name: (x[r], y[r], None if groups is None else groups[r]) for name, r in rows.items()}


def _part(
    path: Path,
    x: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray | None,
    names: np.ndarray | None,
    request: Request,
    images: bool,
) -> Part:
    if y.shape != x.shape[:1] or y.dtype.kind not in "iuUS":
        raise ValueError(f"{path}: want y {list(x.shape[:1])} of whole numbers or words, not {y.dtype} {list(y.shape)}")
    values, labels = np.unique(y, return_inverse=True)
    if groups is not None and (groups.shape != y.shape or groups.dtype.kind not in "iuUS"):
        raise ValueError(
            f"{path}: want groups {list(y.shape)} of whole numbers or words, not {groups.dtype} {list(groups.shape)}"
        )
    if names is not None and y.dtype.kind in "iu":
        if len(values) and not 0 <= values.min() <= values.max() < len(names):
            raise ValueError(f"{path}: y lies in [{values.min()}, {values.max()}], but there are {len(names)} names")
        called = tuple(str(names[v]) for v in values)
    else:
        called = tuple(map(str, values))
    if len(set(called)) < len(called):
        raise ValueError(f"{path}: two classes have one name: give each its own")

    def read(wanted: frozenset[str] | None) -> Labelled:
        inputs = x.astype(np.uint8) * np.uint8(255) if x.dtype == np.bool_ else x
        if images and request.image_size:
            inputs = inputs[..., None] if inputs.ndim == 3 else inputs
            inputs = pixels.resize(inputs, request.image_size)
        of = None if groups is None else np.unique(groups, return_inverse=True)[1]
        return Labelled(inputs, labels.astype(np.int32), called, groups=of)

    return Part(called, read)
