"""Operations and bytes of a program, counted in its jaxpr: what any backend is given, before it compiles it."""

from collections.abc import Callable
from typing import Any


def count_flops(jaxpr: Any) -> int:
    """Floating-point operations of the matrix products and convolutions of a jaxpr, over all turns and devices.

    A loop of unknown length counts as one turn; XLA's own cost analysis counts every loop so, however often it runs.
    """
    return _count(jaxpr, _flops)


def count_bytes(jaxpr: Any) -> int:
    """Bytes that these products and convolutions read and write: the memory traffic left if all else were fused."""
    return _count(jaxpr, lambda eqn: sum(v.aval.size * v.aval.dtype.itemsize for v in (*eqn.invars, *eqn.outvars)))


def _flops(eqn: Any) -> int:
    out = eqn.outvars[0].aval
    if eqn.primitive.name == "conv_general_dilated":
        kernel = eqn.invars[1].aval
        features = kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
        return 2 * out.size * kernel.size // features
    (contracted, _), _ = eqn.params["dimension_numbers"]
    depth = 1
    for axis in contracted:
        depth *= eqn.invars[0].aval.shape[axis]
    return 2 * out.size * depth


def _count(jaxpr: Any, of_product: Callable[[Any], int]) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
            total += of_product(eqn)
            continue
        inner = [getattr(sub, "jaxpr", sub) for v in eqn.params.values() for sub in _as_list(v)]
        counts = [_count(sub, of_product) for sub in inner if hasattr(sub, "eqns")]
        name = eqn.primitive.name
        repeats = eqn.params["length"] if name == "scan" else eqn.params["mesh"].size if name == "shard_map" else 1
        total += repeats * (max(counts, default=0) if name == "cond" else sum(counts))
    return total


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]
