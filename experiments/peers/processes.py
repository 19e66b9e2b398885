"""Fresh processes to time: an environment that has the PyTorch peers, and what a command prints."""

import json
import subprocess
import venv
from pathlib import Path


def environment(folder: Path) -> str:
    """The Python of an environment that has the peers; made if there is none."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = ("torch", "numpy", "higher", "torchopt", "graphviz", "setuptools")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").touch()
    return str(python)


def timed(*command: str) -> dict:
    """The JSON object that a fresh process prints."""
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
