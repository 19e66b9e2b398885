"""Program: a compiled step with as many tasks at a time as the memory of an accelerator holds."""

import logging
from collections.abc import Callable
from typing import Any

import jax

from mtl_jax.run.parallel import MOST
from mtl_jax.types import Array, PyTree

log = logging.getLogger(__name__)

SPARE = 0.9  # of the free memory that a program may take: other programs, such as validation, need some


class Program:
    """(state, pool, count) -> what a compiled call gives, with a number of tasks at a time that fits.

    On a CPU, or where the number is given, it is the program of that number. On an accelerator it is the greatest of
    T, T/2, T/4, ... tasks at a time for which the compiler's own count of temporary memory is within the memory that is
    free; if the first call runs out of memory all the same, the number is halved once, which a warning says.
    """

    def __init__(self, at: Callable[[int | None], Any], chunk: int | None, tasks: int):
        """Take what compiles a step for a number of tasks at a time (None: automatic), that number, and all tasks."""
        self._at, self._chunk, self._tasks = at, chunk, tasks
        self._run: Any = None

    def __call__(self, state: PyTree, pool: PyTree, count: Array) -> Any:
        """Take `count` steps."""
        if self._run is not None:
            return self._run(state, pool, count)
        free = free_memory() if self._chunk is None else None
        if free is None:
            self._run = self._at(self._chunk)
            return self._run(state, pool, count)
        chunk, program = self._fit(free, min(self._tasks, MOST), state, pool, count)
        kept = jax.device_get(state) if chunk > 1 else None  # the call takes the state's memory, whatever comes of it
        try:
            result = jax.block_until_ready(program(state, pool, count))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or kept is None:
                raise
            log.warning("out of memory with %d tasks at a time: going on with %d", chunk, chunk // 2)
            state = jax.device_put(kept, jax.tree.map(lambda a: a.sharding, state))
            program = self._at(chunk // 2)
            result = program(state, pool, count)
        self._run = program
        return result

    def _fit(self, free: int, chunk: int, *args: Any) -> tuple[int, Any]:
        """(tasks at a time, their program), halved until its temporary memory is within `free` bytes, or 1."""
        while True:
            try:
                program = self._at(chunk).lower(*args).compile()
                needs = program.memory_analysis().temp_size_in_bytes
            except jax.errors.JaxRuntimeError as error:  # some compilers refuse what does not fit
                if "RESOURCE_EXHAUSTED" not in str(error) or chunk == 1:
                    raise
                needs = free
            if needs <= SPARE * free or chunk == 1:
                return chunk, program
            chunk //= 2


def free_memory() -> int | None:
    """Bytes that the fullest device has left; None where the backend does not say, as a CPU's does not."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if not all(each and "bytes_limit" in each for each in stats):
        return None
    return min(each["bytes_limit"] - each.get("bytes_in_use", 0) for each in stats if each)
