"""ClassPool: every image of a split, by class, as one uint8 array on the device."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.types import Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["x", "start", "count"],
    meta_fields=["smallest", "largest", "names"],
)
@dataclass(frozen=True)
class ClassPool:
    """Images sorted by class; classes may differ in size.

    Attributes:
        x: [n, height, width, channels] uint8, sorted by class; a numpy array if they stay on the host.
        start: [classes] int32, where each class begins in `x`.
        count: [classes] int32, how many images each class has.
        smallest: images of the smallest class (static, so that requests are checked while tracing).
        largest: images of the largest class (static).
        names: the classes' names, or () where they have none.
    """

    x: Array | np.ndarray
    start: Array
    count: Array
    smallest: int
    largest: int
    names: tuple[str, ...] = field(default=())

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.start.shape[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.x.shape[1:]

    @property
    def on_host(self) -> bool:
        """Whether the images are the host's, not the device's."""
        return isinstance(self.x, np.ndarray)

    @classmethod
    def from_arrays(
        cls, x: np.ndarray | Array, y: np.ndarray | Array, names: Sequence[str] = (), host: bool = False
    ) -> "ClassPool":
        """Build a pool from images and labels in any order.

        Args:
            x: [n, height, width] or [n, height, width, channels], uint8 in [0, 255] or float in [0, 1].
            y: [n] integer labels; any integers, classes are numbered in their sorted order.
            names: [classes] names in that order, optional.
            host: leave the images in the host's memory, or in the file that a `numpy.memmap` of them maps, for sets
                larger than the device; `train` then draws its tasks on the host. Sorted uint8 images are not copied.

        Returns:
            The pool, its images on the default device, or x's own under `host`.

        Raises:
            ValueError: the arrays' shapes, dtypes or ranges do not fit, or there is no image at all.
        """
        images, labels = np.asarray(x), np.asarray(y)
        if images.ndim == 3:
            images = images[..., None]
        if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
            raise ValueError(
                f"x {images.shape} and y {labels.shape} do not fit: want x [n, height, width, channels], y [n], n > 0"
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"y must be integer labels, not {labels.dtype}")
        if np.issubdtype(images.dtype, np.floating):
            if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
                raise ValueError("float images must lie in [0, 1]; scale them, or pass uint8 in [0, 255]")
            images = np.round(images * 255)
        elif images.dtype != np.uint8 and (images.min() < 0 or images.max() > 255):
            raise ValueError(f"{images.dtype} images must lie in [0, 255]; pass uint8, or float in [0, 1]")
        values, inverse, count = np.unique(labels, return_inverse=True, return_counts=True)
        if names and len(names) != len(values):
            raise ValueError(f"{len(names)} names for {len(values)} classes: give one name a class, or none")
        if (np.diff(inverse) < 0).any():
            images = images[np.argsort(inverse, kind="stable")]
        images = images.astype(np.uint8, copy=False)
        return cls(
            x=images if host else jnp.array(images),  # a copy: asarray may share the caller's memory
            start=jnp.asarray(np.concatenate([[0], np.cumsum(count)[:-1]]), jnp.int32),
            count=jnp.asarray(count, jnp.int32),
            smallest=int(count.min()),
            largest=int(count.max()),
            names=tuple(names),
        )
