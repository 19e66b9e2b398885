"""What was read of a data set, and the cache that keeps it from one load to the next."""

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs

from mtl_jax.data.pixels import FILTER

CODE_VERSION = 2  # raise it whenever the same files would give other arrays: it is part of every cache key

log = logging.getLogger(__name__)


class Labelled(NamedTuple):
    """Inputs by class, on the host.

    Attributes:
        x: [n, ...] in a dtype that `ClassPool.from_arrays` takes; images are [n, height, width, channels] uint8.
        labels: [n] int32 in [0, classes).
        names: [classes] the classes' names.
        notes: what a person should be told at every load, one line each.
        groups: [n] numbers of groups of inputs that belong together, such as frames of one thing; None where each
            input is on its own.
    """

    x: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    groups: np.ndarray | None = None

    @property
    def images(self) -> np.ndarray:
        """`x`, where it holds images."""
        return self.x


def by_class(x: np.ndarray, labels: np.ndarray, names: tuple[str, ...], notes: tuple[str, ...] = ()) -> Labelled:
    """Labelled of rows in any order, sorted by class; classes without a row are left out."""
    used, numbers = np.unique(labels, return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    return Labelled(x[order], numbers[order].astype(np.int32), tuple(names[i] for i in used), notes)


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where prepared arrays are kept: `cache_dir`, else $MTL_JAX_CACHE, else the user's cache folder."""
    chosen = cache_dir or os.environ.get("MTL_JAX_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("mtl_jax")


def cached(label: str, key: object, make: Callable[[], Labelled], cache_dir: str | os.PathLike[str] | None) -> Labelled:
    """Return what `make` returned for this key before, or call it and keep the result.

    Args:
        label: a readable beginning of the file's name.
        key: all that shapes the result, as JSON can write it.
        make: makes the result.
        cache_dir: see `cache_folder`; a folder that cannot be written only costs the next load its time.

    Returns:
        The inputs, labels, names, notes and groups; a damaged cache file is made again.
    """
    digest = hashlib.sha256(json.dumps([CODE_VERSION, FILTER.name, key], sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder(cache_dir) / f"{label}-{digest}.npz"
    try:
        # the zip's checksums tell a damaged file
        with path.open("rb") as archive, np.load(archive, allow_pickle=False) as kept:
            said = [tuple(kept[part].tolist()) for part in ("names", "notes")]
            return Labelled(kept["x"], kept["labels"], said[0], said[1], kept.get("groups"))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("cache file %s is damaged (%s): making it again", path, error)
    made = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                names, notes = np.asarray(made.names, np.str_), np.asarray(made.notes, np.str_)
                groups = {} if made.groups is None else {"groups": made.groups}
                np.savez(file, allow_pickle=False, x=made.x, labels=made.labels, names=names, notes=notes, **groups)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        log.warning("cannot write the cache file %s (%s): the next load will be as slow", path, error)
    return made
