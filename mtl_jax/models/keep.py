"""Trees of arrays kept as plain .npz in the user's cache folder, and taken from there if their hash is right."""

import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from mtl_jax.models.layout import flatten, nest

log = logging.getLogger(__name__)


def kept(label: str, make: Callable[[], dict[str, Any]], cache_dir: str | os.PathLike[str] | None) -> dict[str, Any]:
    """The tree that `make` returned for this label before; else call it, and keep what it returns.

    Args:
        label: the file's name, which must say all that shapes the tree.
        make: gives nested dicts of numpy arrays.
        cache_dir: the folder, else $MTL_JAX_CACHE, else the user's cache folder. One that cannot be written only costs
            the next call its time.

    Returns:
        The tree; a file that is damaged, or whose arrays have not the SHA-256 that was kept with them, is made again.
    """
    chosen = cache_dir or os.environ.get("MTL_JAX_CACHE")
    folder = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("mtl_jax")
    path = folder / f"{label}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            flat = {name: archive[name] for name in archive.files}
        if str(flat.pop("digest")) == _digest(flat):
            return nest({tuple(name.split("/")): leaf for name, leaf in flat.items()})
        log.warning("cache file %s is not what was kept: making it again", path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("cache file %s is damaged (%s): making it again", path, error)
    tree = make()
    flat = {"/".join(names): leaf for names, leaf in flatten(tree).items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as fresh:
                arrays: dict[str, Any] = {"digest": np.asarray(_digest(flat)), **flat}
                np.savez(fresh, **arrays)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        log.warning("cannot write the cache file %s (%s)", path, error)
    return tree


def _digest(flat: dict[str, np.ndarray]) -> str:
    """SHA-256 of names, dtypes, shapes and numbers."""
    seen = hashlib.sha256()
    for name in sorted(flat):
        seen.update(f"{name} {flat[name].dtype} {flat[name].shape}".encode())
        seen.update(np.ascontiguousarray(flat[name]).tobytes())
    return seen.hexdigest()
