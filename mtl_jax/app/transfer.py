"""move_network: start a learner from the network of another run."""

import jax

from mtl_jax.types import PyTree

WRAPPERS = ("net", "frozen", "body")  # keys of theta under which a method with more than a network keeps it
HEAD = "head"  # belongs to the classes it was trained on


def move_network(theta: PyTree, source: PyTree) -> PyTree:
    """theta with the network's weights, its head apart, taken from the theta of another run.

    Args:
        theta: what a learner's init gave: a network's parameters, or a dict that holds them under "net", "frozen" or
            "body".
        source: the theta of a trained run, of the same or another method. What it has beside the network (rates, a
            pre-training head, the scales of mtl) is not taken.

    Returns:
        A tree shaped as theta.

    Raises:
        ValueError: the two networks differ in a layer's name or shape.
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
    return whole if where is None else {**theta, where: whole}


def _wrapper(theta: PyTree) -> str | None:
    return next((k for k in WRAPPERS if k in theta), None)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
