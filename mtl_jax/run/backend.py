"""How programs meet the machine: CPU cores as devices, memory kept, and the cache of compiled programs."""

import contextlib
import ctypes
import gc
import math
import os
import sys
from functools import cache
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
OLDER_EMITTER = ("xla_cpu_use_fusion_emitters", False)
MANY_INPUTS = 60_000  # of a task, from which on the older emitter's loops are as fast
SELDOM = 50_000  # new objects between two looks for garbage; 700 of Python's own accord


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX has been given another or it cannot be written.

    The folder is the user's alone: whoever could write a program there could run it as this user.
    """
    import jax

    from mtl_jax.data.images import cache_folder

    folder = cache_folder() / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            return
    except OSError:
        return
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def configure_cpu() -> None:
    """Make each core of a CPU a device of its own, which tasks are then spread over, and keep memory once it is had.

    A meta-step is thousands of small operations, which one core does better alone than two share; and a third of its
    time can go into the page faults of buffers that are handed back to the system and asked for again. Programs run in
    the thread that calls them, whose memory grows without limit: another thread's large buffers would go back each
    time, and one pool of memory for all threads makes them wait for each other, most of all once a compilation has left
    it in pieces. It must come before JAX is first used; later, or where the number of CPU devices has been set, cores
    stay as they are.
    """
    import jax

    _keep_memory()
    _one_thread_of_blas()
    gc.set_threshold(SELDOM)  # tracing makes a million objects that stay: looking through them is a fifth of its time
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.config.jax_num_cpu_devices < 1:  # type: ignore[attr-defined]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with contextlib.suppress(RuntimeError):  # JAX is in use
            jax.config.update("jax_num_cpu_devices", cores)


def compiler_options(task: Any, tasks: int) -> tuple[tuple[str, bool | int], ...]:
    """XLA's options (name, value) for a program that works on as many such tasks; none but on a CPU.

    XLA has two emitters of a CPU's loops. A program by the older one compiles in three quarters of the time or less,
    and its loops over large arrays are as fast or faster, those over small ones are not. Measured on two cores, newer /
    older: compiling and a first step, and a step, of MAML on 80 images of 28x28x1 13.3 s / 9.3 s, 318 ms / 318 ms; on
    100 of 32x32x3 14.8 / 12.3, 734 / 646; on 80 of 84x84x3 17.3 / 12.5, 824 / 775; on 10 of 28x28x1 9.6 / 7.0,
    130 / 144. A single task of ProtoNet, whose operations are each shared by two cores: 6.8 / 4.8, 99 / 104.

    Args:
        task: one's arrays, or their shapes and dtypes.
        tasks: how many there are.
    """
    import jax

    inputs = sum(math.prod(a.shape) for a in jax.tree.leaves(task) if jax.numpy.issubdtype(a.dtype, jax.numpy.floating))
    return (OLDER_EMITTER,) if tasks > 1 and inputs >= MANY_INPUTS and _has_older_emitter() else ()


def run_once_options() -> tuple[tuple[str, bool | int], ...]:
    """XLA's options for a program that runs once: on a CPU, whatever compiles soonest."""
    return (OLDER_EMITTER, ("xla_backend_optimization_level", 0)) if _has_older_emitter() else ()


@cache
def _has_older_emitter() -> bool:
    """Whether this is a CPU, and an XLA that knows the option."""
    import jax

    if jax.default_backend() != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options=dict([OLDER_EMITTER])).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _one_thread_of_blas() -> None:
    """Let each device solve its linear systems in its own thread: BLAS's would compete for the cores, or lock up."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # where it is yet to be loaded
    if "scipy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(1, user_api="blas")


def _keep_memory() -> None:
    """Tell the C library (glibc; others are left alone) to use freed memory again rather than give it back."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
            mallopt(name, value)
