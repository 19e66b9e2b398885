"""Processes of one training, on one machine or many: how they find each other, and what they do as one."""

import os
import sys

import jax
import numpy as np

HEARTBEAT = 20  # seconds without a sign of life after which a process counts as dead, and the others end
SHUTDOWN = 20  # seconds that a process which has ended waits for the others


def join_processes(coordinator: str | None = None, process_id: int | None = None, processes: int | None = None) -> None:
    """Find the other processes of this training; before anything else of JAX, in each of them.

    Args:
        coordinator: HOST:PORT of process 0. SLURM, Open MPI, GKE and TPU pods are found out by themselves where nothing
            is given.
        process_id: which of the processes this is, from 0.
        processes: how many there are.

    Raises:
        ValueError: some of the three without the others, or nothing that says where the others are.
    """
    given = {"coordinator": coordinator, "process-id": process_id, "num-processes": processes}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise ValueError(f"coordinator, process-id and num-processes go together: {missing[0]} is missing")
    if process_id is not None and processes is not None and not 0 <= process_id < processes:
        raise ValueError(f"process-id must be in 0 ... {processes - 1} of {processes} processes, not {process_id}")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator, processes, process_id, heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=SHUTDOWN
        )
    except (ValueError, RuntimeError) as error:
        if missing:
            text = "no cluster was found that says where the other processes are: give coordinator HOST:PORT, "
            raise ValueError(text + "process-id K and num-processes N") from error
        raise ValueError(
            f"the other processes were not found at {coordinator}: {str(error).splitlines()[0]}"
        ) from error


def send_libraries_output_to_stderr() -> None:
    """Leave standard output to Python's own prints: what libraries write there goes to standard error."""
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(ours, "w", buffering=1, encoding=sys.stdout.encoding, errors=sys.stdout.errors)


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def agree(count: int, *flags: bool) -> tuple[int, tuple[bool, ...]]:
    """(The first process's count; each flag, true if any process has set it): what comes next must be the same."""
    if jax.process_count() == 1:
        return count, flags
    seen = _gathered([count, *flags])
    return int(seen[0, 0]), tuple(bool(seen[:, i + 1].any()) for i in range(len(flags)))


def refuse_together(problem: str | None) -> None:
    """Raise ValueError in every process where one of them has found a problem: none is left waiting for another."""
    if jax.process_count() > 1 and _gathered([problem is not None])[:, 0].any():
        raise ValueError(problem or "another process of this training has refused: its line says why")
    if problem is not None:
        raise ValueError(problem)


def wait_for_all(what: str) -> None:
    """Return when every process has come here, as when process 0 has written what the others then read."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


def _gathered(values: list[int]) -> np.ndarray:
    """[processes, values] int32."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(np.array(values, np.int32))).reshape(-1, len(values))
