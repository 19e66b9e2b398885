"""Parts of a network's parameters, by the names of their leaves: what scales a channel, what shifts one."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from mtl_jax.types import Array, PyTree


def is_gain(name: str) -> bool:
    """Whether a leaf of this name multiplies channels: a normalisation's scale."""
    return name == "scale"


def is_shift(name: str) -> bool:
    """Whether a leaf of this name adds to channels: a normalisation's shift, or a layer's bias."""
    return name in ("shift", "bias")


def adapter_of(name: str, leaf: Array) -> Array | None:
    """A 1x1 convolution [in, out] of zeros for a convolution's kernel [k, k, in, out], [1, c] for a depthwise one."""
    return jnp.zeros(leaf.shape[2:], leaf.dtype) if leaf.ndim == 4 else None


def beside(kernel: Array, adapter: Array) -> Array:
    """The kernel [k, k, in, out] of a convolution and a 1x1 one [in, out] beside it, whose outputs are added.

    A 1x1 convolution sees what the k x k one has in its middle.
    """
    return kernel.at[kernel.shape[0] // 2, kernel.shape[1] // 2].add(adapter)


def parts_of(tree: PyTree, make: Callable[[str, Array], PyTree], name: str = "") -> PyTree:
    """What `make(name, leaf)` gives per leaf, in a tree of the same keys, without the branches where it gives None.

    Keys of a list or tuple are its places as words: "0", "1".
    """
    branches = _branches(tree)
    if branches is None:
        return make(name, tree)
    parts = {k: parts_of(v, make, k) for k, v in branches.items()}
    return {k: v for k, v in parts.items() if v is not None} or None


def change_parts(tree: PyTree, parts: PyTree, rule: Callable[[Array, PyTree], Array]) -> PyTree:
    """The tree with `rule(leaf, part)` wherever `parts` has something."""
    branches = _branches(tree)
    if branches is None:
        return rule(tree, parts)
    changed = {k: change_parts(v, parts[k], rule) if k in parts else v for k, v in branches.items()}
    if isinstance(tree, Mapping):
        return changed
    return type(tree)(*changed.values()) if hasattr(tree, "_fields") else type(tree)(changed.values())


def _branches(tree: PyTree) -> dict[str, Any] | None:
    """What a dict, list or tuple holds, by key or place; None of a leaf."""
    if isinstance(tree, Mapping):
        return dict(tree)
    return {str(i): v for i, v in enumerate(tree)} if isinstance(tree, (list, tuple)) else None
