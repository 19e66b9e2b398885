"""Networks of other libraries as a Model: flax linen, flax nnx and equinox.

Two plain functions need no adaptor: `Model(init, apply)` takes them as they are. All three adaptors do the same things.

Layout: parameters become nested dicts with names for keys, whatever the library keeps them in; the head is their
top-level "head" {kernel [d, ways], bias [ways]}, and without it `apply` gives features, the head's own inputs. `head`
says once which linear layer that is, by name or path ("fc", "layers/2"); a top-level layer that is called "head"
already needs no saying. It must be the last thing that the network does: `init` tries this on a random input.

Dropout is off. Stored moments (BatchNorm) are those of evaluation: constants that the module came with, no parameters,
so that they take no step and every input is independent ("norm frozen"); or, by norm="transductive" (linen and nnx),
each batch's own. A Model's stats are None.
"""

from collections.abc import Callable
from typing import Any

import jax

from mtl_jax.models.layout import Flat, Path, adapt, below, flatten, nest, reach
from mtl_jax.types import Array, Model, PyTree

NORMS = ("frozen", "transductive")


def from_linen(
    module: Any, head: str | None = None, norm: str = "frozen", variables: PyTree = None, **call: Any
) -> Model:
    """A flax linen module as a Model.

    Args:
        module: with a __call__(x) of a batch [n, ...].
        head: name or path of its last linear layer, as in its parameters; None without one.
        norm: "frozen" or "transductive", as this module's docstring says.
        variables: trained ones, {"params", "batch_stats"}: `init` gives copies of these params in place of fresh ones,
            and a frozen BatchNorm has its moments from here.
        call: further arguments of __call__, such as train=False.

    Returns:
        Model for x as the module takes it.

    Raises:
        ValueError: an unknown norm; or, in init, moments that are stored nowhere, other collections of variables than
            these two, or a head that is not there, not linear with a bias, or not the last step.
    """
    import flax.linen as nn

    _check_norm(norm)
    frozen = norm == "frozen"
    constants = {name: kept for name, kept in (variables or {}).items() if frozen and name == "batch_stats"}

    def evaluated(call_next: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        """A layer's call, without dropout and with the moments that `norm` says."""
        layer = context.module
        if context.method_name == "__call__" and isinstance(layer, nn.Dropout):
            return args[0]
        if context.method_name == "__call__" and isinstance(layer, nn.BatchNorm):
            object.__setattr__(layer, "use_running_average", None)  # flax wants it said once: here or in the call
            masked = {"mask": kwargs["mask"]} if "mask" in kwargs else {}
            return call_next(args[0], use_running_average=frozen and not layer.is_initializing(), **masked)
        return call_next(*args, **kwargs)

    def run(params: Flat, x: Array, stop: Path) -> Array:
        stopped = []

        def intercept(call_next: Callable, args: Any, kwargs: Any, context: Any) -> Any:
            if context.method_name == "__call__" and stop and context.module.path == stop:
                stopped.append(stop)
                return args[0]
            return evaluated(call_next, args, kwargs, context)

        with nn.intercept_methods(intercept):
            tree = {"params": nest(params), **constants}
            y = module.apply(tree, x, mutable=["batch_stats"] if norm == "transductive" else False, **call)
        if head is not None and stop and not stopped:
            raise ValueError(f"the head {'/'.join(stop)!r} is no layer that this linen module calls")
        return y[0] if norm == "transductive" else y

    def draw(key: Array, x: Array) -> Flat:
        made = variables
        if made is None:
            with nn.intercept_methods(evaluated):
                made = module.init(key, x, **call)
            if frozen and "batch_stats" in made:
                raise ValueError(
                    "its BatchNorm has no stored moments yet: give variables= of a trained module, or "
                    "norm='transductive' for each batch's own"
                )
        if extra := set(made) - {"params", "batch_stats"}:
            raise ValueError(
                f"linen variables {', '.join(sorted(extra))} are not supported: params and batch_stats are"
            )
        return flatten(made["params"])

    return adapt(draw, run, head, "kernel")


def from_nnx(module: Any, head: str | None = None, norm: str = "frozen") -> Model:
    """A flax nnx module as a Model.

    Args:
        module: with a __call__(x) of a batch [n, ...]: an instance, of which `init` gives copies whatever the key; or a
            function rngs -> module, for fresh parameters of each key. It is not changed.
        head: path of its last linear layer, such as "fc" or "layers/2"; None without one.
        norm: "frozen" or "transductive", as this module's docstring says.

    Returns:
        Model for x as the module takes it. Its nnx.Param are the parameters; all other state is constant.

    Raises:
        ValueError: an unknown norm, or neither a module nor a function that gives one; or, in init, a head that is not
            there, not linear with a bias, or not the last step.
    """
    from flax import nnx

    _check_norm(norm)
    make = None if isinstance(module, nnx.Module) or not callable(module) else module
    built = module if make is None else make(nnx.Rngs(0))
    if not isinstance(built, nnx.Module):
        raise ValueError(f"from_nnx wants an nnx module, or a function rngs -> module, not {type(built).__name__}")
    graph, stored, rest = nnx.split(built, nnx.Param, ...)
    template, tree = flatten(stored), jax.tree.structure(stored)

    def run(params: Flat, x: Array, stop: Path) -> Array:
        leaves = [params.get(path, leaf) for path, leaf in template.items()]
        net = nnx.merge(graph, jax.tree.unflatten(tree, leaves), rest, copy=True)
        net.eval()
        if norm == "transductive":
            net.set_attributes(nnx.BatchNorm, use_running_average=False, raise_if_not_found=False)
        if stop and below(template, stop):
            owner = reach(net, stop[:-1])
            if hasattr(owner, "__setitem__"):
                owner[int(stop[-1])] = _same
            else:
                setattr(owner, stop[-1], _same)
        return net(x)

    def draw(key: Array, x: Array) -> Flat:
        return template if make is None else flatten(nnx.split(make(nnx.Rngs(key)), nnx.Param, ...)[1])

    return adapt(draw, run, head, "kernel")


def from_equinox(module: Any, head: str | None = None) -> Model:
    """An equinox module, which is written for one example, as a Model.

    Args:
        module: with a __call__(x) of one example: an instance, of which `init` gives copies whatever the key; a pair
            (module, state) as eqx.nn.make_with_state gives it, called with (x, state); or a function key -> either,
            for fresh parameters of each key.
        head: path of its last eqx.nn.Linear, such as "layers/2"; None without one. Its weight [ways, d] is kernel
            [d, ways] here.

    Returns:
        Model for x [n, ...], of examples as the module takes them (equinox's convolutions want channels first). Its
        float arrays are the parameters; state is constant, "norm frozen".

    Raises:
        ValueError: neither a module nor a function that gives one; or, in init, a head that is not there, not linear
            with a bias, or not the last step.
    """
    import equinox as eqx

    def parts(made: Any) -> tuple[Any, Any]:
        net, state = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(net, eqx.Module):
            raise ValueError(f"from_equinox wants a module, or a function key -> module, not {type(net).__name__}")
        return eqx.nn.inference_mode(net), state

    make = None if isinstance(module, (eqx.Module, tuple)) or not callable(module) else module
    built, state = parts(module if make is None else make(jax.random.key(0)))
    stored, static = eqx.partition(built, eqx.is_inexact_array)
    template, tree = flatten(stored), jax.tree.structure(stored)

    def run(params: Flat, x: Array, stop: Path) -> Array:
        leaves = [params.get(path, leaf) for path, leaf in template.items()]
        net = eqx.combine(jax.tree.unflatten(tree, leaves), static)
        if stop and below(template, stop):
            net = eqx.tree_at(lambda n: reach(n, stop), net, eqx.nn.Identity())
        if state is None:
            return jax.vmap(net)(x)
        return jax.vmap(net, (0, None), (0, None), axis_name="batch")(x, state)[0]

    def draw(key: Array, x: Array) -> Flat:
        return template if make is None else flatten(eqx.partition(parts(make(key))[0], eqx.is_inexact_array)[0])

    return adapt(draw, run, head, "weight")


def _same(x: Array) -> Array:
    return x


def _check_norm(norm: str) -> None:
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")
