"""Start a learner from the network of another run, where that is the same network."""

import jax

from mtl_jax.app.settings import NetworkSettings
from mtl_jax.types import PyTree

WRAPPERS = ("net", "frozen", "body")  # keys of theta under which a method with more than a network keeps it
HEAD = "head"  # of a pre-training, belongs to its classes; of meta-learning, the start of every task's


def move_network(theta: PyTree, source: PyTree, head: bool = False) -> PyTree:
    """theta with the network's weights taken from the theta of another run, its head only where asked.

    Args:
        theta: what a learner's init gave: a network's parameters, or a dict that holds them under "net", "frozen" or
            "body".
        source: the theta of a trained run, of the same or another method. What it has beside the network (rates, a
            pre-training head, the scales of mtl) is not taken.
        head: take its linear head too.

    Returns:
        A tree shaped as theta.

    Raises:
        ValueError: the two networks differ in a layer's name or shape; or so do their heads, or one has none, where it
            is to be taken.
    """
    where = _wrapper(theta)
    net = theta if where is None else theta[where]
    key = _wrapper(source)
    given = source if key is None else source[key]
    body, new = ({k: v for k, v in tree.items() if k != HEAD} for tree in (net, given))
    shapes, others = (_shapes(tree) for tree in (body, new))
    if shapes != others:
        odd = sorted(k for k in shapes.keys() | others.keys() if shapes.get(k) != others.get(k))
        raise ValueError(
            f"the run to start from is of another network: {odd[0]} is {others.get(odd[0], 'absent')} there and "
            f"{shapes.get(odd[0], 'absent')} here; give both the same --model, --width, --downsample and image"
        )
    whole = {**net, **new}
    moved = whole if where is None else {**theta, where: whole}
    return _move_head(moved, where, given.get(HEAD, source.get(HEAD))) if head else moved


def check_start(here: NetworkSettings, there: NetworkSettings) -> None:
    """ValueError where the weights of a run's network fit another one's by their shapes alone.

    Strides have the kernels of max-pools, and features of one length may come from other backbones: such weights would
    start a network that they are not of, in silence. Another model is `move_network`'s to refuse, by its layers.
    """
    if here.model != there.model:
        return
    for name in ("downsample", "backbone"):
        own, other = (getattr(of, name) for of in (here, there))
        if own != other:
            said = f"{name} {other or 'none'} there and {own or 'none'} here"
            raise ValueError(f"the run to start from is of another network: {said}; give both the same --{name}")


def _move_head(theta: PyTree, where: str | None, head: PyTree | None) -> PyTree:
    """theta with that head, which a method keeps in its network or beside it."""
    inside = where is not None and HEAD in theta[where]
    old = theta[where][HEAD] if inside else theta.get(HEAD)
    if head is None or old is None:
        lacks = "the run to start from" if head is None else "this method"
        raise ValueError(f"{lacks} has no head: leave --init-head out")
    if _shapes(head) != _shapes(old):
        raise ValueError(
            f"the head to start from is of {_ways(head)} ways and {_ways(old)} are needed: give both as many, or leave "
            "--init-head out"
        )
    return {**theta, where: {**theta[where], HEAD: head}} if inside else {**theta, HEAD: head}


def _ways(head: PyTree) -> int:
    return max(jax.tree.leaves(head), key=lambda leaf: leaf.ndim).shape[-1]


def _wrapper(theta: PyTree) -> str | None:
    return next((k for k in WRAPPERS if k in theta), None)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
