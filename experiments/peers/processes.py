"""Fresh processes to time: an environment that has the PyTorch peers, and what a command prints."""

import contextlib
import json
import os
import signal
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("torch", "numpy", "higher", "torchopt", "graphviz", "setuptools")


def environment(folder: Path, packages: Sequence[str] = PACKAGES) -> str:
    """The Python of an environment that has the peers; made if there is none."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").touch()
    return str(python)


def timed(*command: str, limit: float | None = None) -> dict:
    """The JSON object that a fresh process prints.

    Raises:
        TimeoutError: it took longer than `limit` seconds; it has been ended, with what it had started.
        RuntimeError: it failed, with the end of what it said.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            said, errors = process.communicate(timeout=limit)
        except BaseException as ended:  # also of Ctrl-C: a session of its own does not hear that
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(ended, subprocess.TimeoutExpired):
                raise TimeoutError(f"not done after {limit:g} s") from None
            raise
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {errors[-500:]}")
    return json.loads(said.splitlines()[-1])
