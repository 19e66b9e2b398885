"""Parts of a network's parameters, by the names of their leaves: what scales a channel, what shifts one."""

from collections.abc import Callable, Mapping

from mtl_jax.types import Array, PyTree


def is_gain(name: str) -> bool:
    """Whether a leaf of this name multiplies channels: a normalisation's scale."""
    return name == "scale"


def is_shift(name: str) -> bool:
    """Whether a leaf of this name adds to channels: a normalisation's shift, or a layer's bias."""
    return name in ("shift", "bias")


def parts_of(tree: PyTree, make: Callable[[str, Array], PyTree], name: str = "") -> PyTree:
    """What `make(name, leaf)` gives per leaf, in a tree of the same keys, without the branches where it gives None."""
    if not isinstance(tree, Mapping):
        return make(name, tree)
    parts = {k: parts_of(v, make, k) for k, v in tree.items()}
    return {k: v for k, v in parts.items() if v is not None} or None


def change_parts(tree: PyTree, parts: PyTree, rule: Callable[[Array, PyTree], Array]) -> PyTree:
    """The tree with `rule(leaf, part)` wherever `parts` has something."""
    if not isinstance(tree, Mapping):
        return rule(tree, parts)
    return {k: change_parts(v, parts[k], rule) if k in parts else v for k, v in tree.items()}
