"""Parameters of other libraries as nested dicts of names, the last linear layer among them as "head"."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.types import Array, Model, PyTree

Path = tuple[str, ...]  # of names; empty for nothing
Flat = dict[Path, Any]


def adapt(
    draw: Callable[[Array, Array], Flat],
    run: Callable[[Flat, Array, Path], Array],
    head: str | None,
    kernel: str,
) -> Model:
    """A Model from a library's own flat parameters, and from running them, up to the head where one is to be left out.

    `kernel` is what the library calls a linear layer's weights; as "weight", they are transposed.
    """
    where = tuple(head.replace(".", "/").split("/")) if head else ("head",)
    turned = kernel == "weight"

    def laid_out(flat: Flat) -> dict[str, Any]:
        mine = below(flat, where)
        if not mine and head is None:
            return nest(flat)
        fits = set(mine) == {(kernel,), ("bias",)} and mine[(kernel,)].ndim == 2 and mine[("bias",)].ndim == 1
        if not fits:
            have = ", ".join(sorted({"/".join(path[:-1]) for path in flat}))
            raise ValueError(
                f"head {'/'.join(where)!r} is no linear layer with a bias in this network: its layers are {have}"
            )
        body = {path: leaf for path, leaf in flat.items() if path[: len(where)] != where}
        if any(path[0] == "head" for path in body):
            raise ValueError(
                f"the network has a layer 'head' beside the head {'/'.join(where)!r}: give it another name"
            )
        weight = mine[(kernel,)]
        return {**nest(body), "head": {"kernel": weight.T if turned else weight, "bias": mine[("bias",)]}}

    def init(key: Array, x: Array) -> dict[str, Any]:
        params = laid_out(draw(key, x))
        if "head" in params:
            _try_head(params, x)
        return jax.tree.map(jnp.array, params)  # copies: a trainer may donate its own

    def _try_head(params: dict[str, Any], x: Array) -> None:
        """ValueError unless outputs are the head's linear layer of the features."""
        floats = jnp.issubdtype(x.dtype, jnp.floating)
        with jax.ensure_compile_time_eval():
            rng = np.random.default_rng(0)
            shape = (2, *x.shape[1:])
            probe = jnp.asarray(rng.uniform(size=shape) if floats else np.zeros(shape), x.dtype)
            drawn = laid_out(draw(jax.random.key(0), probe))
            body = {name: layer for name, layer in drawn.items() if name != "head"}
            outputs = apply(drawn, probe)[0]
            try:
                features = apply(body, probe)[0]
                again = features @ drawn["head"]["kernel"] + drawn["head"]["bias"]
            except (TypeError, ValueError):  # layers after it do not take its inputs
                again = features = jnp.zeros(0, outputs.dtype)
            atol = 1e-4 * float(jnp.abs(outputs).max()) + 1e-6
            if features.ndim == 2 and again.shape == outputs.shape and np.allclose(again, outputs, 1e-3, atol):
                return
        raise ValueError(
            f"head {'/'.join(where)!r} is not the last step of this network on features [n, d]: let it end in the head"
        )

    def apply(params: Any, x: Array, stats: Any = None) -> tuple[Array, Any]:
        flat = flatten(params)
        if "head" not in params:
            return run(flat, x, where), None
        weight, bias = flat.pop(("head", "kernel")), flat.pop(("head", "bias"))
        return run({**flat, (*where, kernel): weight.T if turned else weight, (*where, "bias"): bias}, x, ()), None

    return Model(init, apply)


def flatten(tree: PyTree) -> Flat:
    """Leaves by path, in jax.tree.leaves' order; an nnx variable's own "value" is no step of the path."""
    flat: Flat = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        names = [str(getattr(step, "key", getattr(step, "idx", getattr(step, "name", step)))) for step in path]
        if isinstance(path[-1], jax.tree_util.GetAttrKey) and names[-1] == "value":
            names.pop()
        flat[tuple(names)] = leaf
    return flat


def below(flat: Flat, place: Path) -> Flat:
    """The leaves under a path, by the rest of theirs."""
    return {path[len(place) :]: leaf for path, leaf in flat.items() if path[: len(place)] == place}


def nest(flat: Flat) -> dict[str, Any]:
    """The nested dicts that have these leaves at these paths."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        place = tree
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = leaf
    return tree


def reach(net: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path of attributes and indices."""
    for name in path:
        net = net[int(name)] if isinstance(net, (list, tuple)) or not hasattr(net, name) else getattr(net, name)
    return net
