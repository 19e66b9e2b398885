"""What this machine does at most, measured beside a step, and how much of each the step asks for."""

import statistics
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mtl_jax.app.operations import count_operations

SIDE = 1024  # of the matrices
CHAIN = 200  # operations one after another
MOST = 2**26  # bytes of an array


class Rates:
    """A machine's rates, timed in turn with a step: matrix products, memory, and operations that hardly compute.

    Each is a program of its own: a float32 product of 1024 x 1024 matrices; and a chain of additions on every device
    at once, of arrays as large as the step's operations have on average (memory), and of eight numbers (dispatch).
    """

    def __init__(self, compiled: Any, flops: int):
        """Count what a compiled step asks for; flops are those of its products, over all devices."""
        devices = np.array(jax.local_devices())
        self._flops = flops
        self.operations, self.traffic = count_operations(compiled.as_text())
        each = min(MOST, self.traffic // max(1, 2 * self.operations)) // 4
        rows = NamedSharding(Mesh(devices, ("devices",)), P("devices"))
        ones = partial(jnp.ones, dtype=jnp.float32)
        arrays = {name: jax.device_put(ones((len(devices), max(8, n))), rows) for name, n in (("copy", each), ("", 8))}
        square = ones((SIDE, SIDE))
        self._programs = {
            "matrix": partial(jax.jit(jnp.matmul), square, square),
            "memory": partial(jax.jit(_chain), arrays["copy"]),
            "dispatch": partial(jax.jit(_chain), arrays[""]),
        }
        self._copied = 8.0 * CHAIN * arrays["copy"].shape[1]
        self._seconds: dict[str, list[float]] = {name: [] for name in self._programs}
        for program in self._programs.values():
            jax.block_until_ready(program())

    def time(self) -> None:
        """Run each program once."""
        for name, program in self._programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program())
            self._seconds[name].append(time.perf_counter() - began)

    def matmul_gflops(self) -> float:
        """Rate of the product, in 1e9 operations per second."""
        return 2e-9 * SIDE**3 / self._median("matrix")

    def shares(self, step_ms: float) -> dict[str, float]:
        """For each rate, the time that the step would take at it alone, as a fraction of the time that it takes."""
        wanted = {
            "matrix": 1e-9 * self._flops / self.matmul_gflops(),
            "memory": self.traffic / self._copied * max(0.0, self._median("memory") - self._median("dispatch")),
            "dispatch": self.operations / CHAIN * self._median("dispatch"),
        }
        return {name: 1000 * seconds / step_ms for name, seconds in wanted.items()}

    def _median(self, name: str) -> float:
        return statistics.median(self._seconds[name])


def _chain(x: jax.Array) -> jax.Array:
    for _ in range(CHAIN):
        x = jax.lax.optimization_barrier(x + 1)  # which keeps the additions apart
    return x
