"""ClassPool: every input of a split, by class, as one array on the device or on the host."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.types import Array


class Groups(NamedTuple):
    """Inputs of a class that belong together: an episode has one input of a group at most.

    Attributes:
        first: [classes] int32, each class's first group.
        start: [groups] int32, where each group begins in x.
        size: [groups] int32, how many inputs each has.
    """

    first: Array
    start: Array
    size: Array


CHUNK = 1 << 24  # bytes looked at at a time: a mapped file never lies in memory whole

log = logging.getLogger(__name__)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["x", "start", "count", "groups"],
    meta_fields=["smallest", "largest", "names", "about", "rarest"],
)
@dataclass(frozen=True)
class ClassPool:
    """Inputs sorted by class; classes may differ in size.

    Attributes:
        x: [n, ...], sorted by class: uint8 images, float32 or bfloat16 features, or int32 tokens; a numpy array if it
            stays on the host.
        start: [classes] int32, where each class begins in `x`.
        count: [classes] int32, how many inputs each class has.
        smallest: inputs (or groups, where there are any) of the smallest class (static, so that requests are checked
            while tracing).
        largest: inputs (or groups) of the largest class (static).
        names: the classes' names, or () where they have none.
        about: what the pool is, for messages: "omniglot test"; "" where nobody said.
        rarest: which class is the smallest (static, for messages).
        groups: Groups, or None where each input is on its own.
    """

    x: Array | np.ndarray
    start: Array
    count: Array
    smallest: int
    largest: int
    names: tuple[str, ...] = field(default=())
    about: str = ""
    rarest: int = 0
    groups: Groups | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.start.shape[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.x.shape[1:]

    @property
    def input_dtype(self) -> np.dtype:
        """What an episode's inputs are: float32 for uint8 images, else the dtype of `x`."""
        return np.dtype(np.float32) if self.x.dtype == np.uint8 else np.dtype(self.x.dtype)

    @property
    def on_host(self) -> bool:
        """Whether the inputs are the host's, not the device's."""
        return isinstance(self.x, np.ndarray)

    @classmethod
    def from_arrays(
        cls,
        x: np.ndarray | Array | Sequence[Any],
        y: np.ndarray | Array | Sequence[int],
        names: Sequence[str] = (),
        host: bool = False,
        about: str = "",
        groups: np.ndarray | Sequence[Any] | None = None,
    ) -> "ClassPool":
        """Build a pool from inputs and labels in any order.

        Args:
            x: uint8 images [n, height, width] or [n, height, width, channels], drawn as float32 in [0, 1] (booleans
                are 0 and 255); or floats of any shape [n, ...], drawn as they are (bfloat16 stays, other widths become
                float32); or other integers [n, ...], tokens, drawn as int32.
            y: [n] integer labels; any integers, classes are numbered in their sorted order.
            names: [classes] names in that order, optional.
            host: leave x in the host's memory, or in the file that a `numpy.memmap` maps, for sets larger than the
                device; `train` then draws its tasks on the host. What is sorted by class and of a pool's dtype
                already is not copied.
            about: what the pool is, for messages ("omniglot test").
            groups: [n] numbers or words; inputs of a class with the same one, such as frames of one thing, belong
                together, and an episode has one of them at most.

        Returns:
            The pool, x on the default device, or x's own under `host`.

        Raises:
            ValueError: shapes or dtypes do not fit, x is not finite or looks channels-first, or it is empty.
        """
        inputs, labels = _inputs(np.asarray(x)), np.asarray(y)
        if labels.shape != inputs.shape[:1] or not len(labels):
            raise ValueError(f"x {inputs.shape} and y {labels.shape} do not fit: want x [n, ...] and y [n], n > 0")
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"y must be integer labels, not {labels.dtype}")
        values, inverse, count = np.unique(labels, return_inverse=True, return_counts=True)
        if len(names) and len(names) != len(values):
            raise ValueError(f"{len(names)} names for {len(values)} classes: give one name per class, or none")
        order, grouped, drawn = inverse, None, count
        if groups is not None:
            which = np.unique(np.asarray(groups), return_inverse=True)[1]
            if which.shape != labels.shape:
                raise ValueError(f"groups {which.shape} and y {labels.shape} do not fit: give one group per input")
            order = np.unique(np.stack((inverse, which)), axis=1, return_inverse=True)[1].reshape(-1)
            grouped, drawn = _grouped(inverse, order)
        if (np.diff(order) < 0).any():
            inputs = inputs[np.argsort(order, kind="stable")]
        return cls(
            x=inputs if host else jnp.array(inputs),  # a copy: asarray may share the caller's memory
            start=jnp.asarray(np.concatenate([[0], np.cumsum(count)[:-1]]), jnp.int32),
            count=jnp.asarray(count, jnp.int32),
            smallest=int(drawn.min()),
            largest=int(drawn.max()),
            names=tuple(map(str, names)),
            about=about,
            rarest=int(drawn.argmin()),
            groups=grouped,
        )


def _grouped(classes: np.ndarray, groups: np.ndarray) -> tuple[Groups, np.ndarray]:
    """(Groups of inputs sorted by group, how many groups each class has) of each input's class and group [n].

    Groups are numbered class by class.
    """
    size = np.bincount(groups)
    of_class = np.zeros(len(size), int)
    of_class[groups] = classes
    many = np.bincount(of_class)
    starts = (np.concatenate([[0], np.cumsum(each)[:-1]]) for each in (many, size))
    return Groups(*(jnp.asarray(each, jnp.int32) for each in (*starts, size))), many


def _inputs(x: np.ndarray) -> np.ndarray:
    """x in a pool's dtype: uint8, float32, bfloat16 or int32."""
    if x.dtype == np.bool_:
        x = x.astype(np.uint8) * np.uint8(255)
    if x.dtype == np.uint8:
        return _images(x)
    if x.ndim < 2:
        raise ValueError(f"x {x.shape} has no axis beside n: give x [n, ...], for one number per input x[:, None]")
    if np.issubdtype(x.dtype, np.integer):
        bounds = np.iinfo(np.int32)
        if x.dtype != np.int32 and x.size and (x.min() < bounds.min or x.max() > bounds.max):
            raise ValueError(f"{x.dtype} tokens must fit int32, not lie in [{x.min()}, {x.max()}]")
        return x.astype(np.int32, copy=False)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be uint8 images, floats or integer tokens, not {x.dtype}: convert it")
    if x.dtype != jnp.bfloat16:
        with np.errstate(over="ignore"):  # too large for float32 is infinite, which is refused below
            x = x.astype(np.float32, copy=False)
    check_finite(x)
    if x.ndim == 4 and _channels_first(x.shape):
        log.warning("x %s looks channels-first and is drawn as it is: for images give np.moveaxis(x, 1, -1)", x.shape)
    return x


def _images(x: np.ndarray) -> np.ndarray:
    """Images [n, height, width, channels] uint8, or a line on what is the matter with them."""
    if x.ndim not in (3, 4):
        raise ValueError(
            f"uint8 x must be images [n, height, width, channels], not {x.shape}: "
            "features are floats, tokens are int32; convert it"
        )
    if x.ndim == 4 and _channels_first(x.shape):
        raise ValueError(f"x {x.shape} looks channels-first: pass np.moveaxis(x, 1, -1)")
    if x.ndim == 3 and x.shape[2] in (1, 3, 4) and x.shape[1] >= 8:
        raise ValueError(
            f"uint8 x {x.shape} would be pictures {x.shape[2]} pixels wide: "
            "pass x.astype('float32') for series, x[..., None] for such pictures"
        )
    return x[..., None] if x.ndim == 3 else x


def _channels_first(shape: tuple[int, ...]) -> bool:
    return shape[1] in (1, 3) and shape[3] not in (1, 3, 4) and min(shape[2:]) >= 8


def check_finite(x: np.ndarray, name: str = "x") -> None:
    """Raise ValueError, which names the first row [n, ...] that has a NaN or an infinity, if one has."""
    rows = max(1, CHUNK // max(1, x[:1].nbytes))
    for first in range(0, len(x), rows):
        part = np.isfinite(x[first : first + rows]).reshape(len(x[first : first + rows]), -1)
        if not part.all():
            row = first + int(np.argmin(part.all(1)))
            raise ValueError(f"{name} is not finite (NaN or infinite) in row {row}: leave such rows out, or fill them")
