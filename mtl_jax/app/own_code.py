"""A learner or a network of one's own, named on the command line as FILE.py:FUNCTION."""

import importlib.util
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

FORM = re.compile(r"(.+\.py):([A-Za-z_]\w*)")


def is_place(name: Any) -> bool:
    """Whether a name has the form FILE.py:FUNCTION."""
    return isinstance(name, str) and FORM.fullmatch(name) is not None


def find(place: str) -> tuple[Path, str]:
    """(The file's path from the root, the function's name) of FILE.py:FUNCTION.

    Raises:
        ValueError: another form, or no such file.
    """
    found = FORM.fullmatch(place) if isinstance(place, str) else None
    if found is None:
        raise ValueError(f"a function of your own is named FILE.py:FUNCTION, such as my.py:factory, not {place!r}")
    path = Path(found[1]).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"no file {path}: give FILE.py:FUNCTION, the path of a Python file and a function in it")
    return path, found[2]


def from_root(place: str) -> str:
    """The same place with its file's path from the root, so that the run can be evaluated from anywhere."""
    path, function = find(place)
    return f"{path}:{function}"


def load(place: str) -> Callable[..., Any]:
    """The function, from its file, which is run once; files beside it can be imported there.

    Raises:
        ValueError: no such file or function, or a file that cannot be run, with its error.
    """
    path, function = find(place)
    made = getattr(_run(path), function, None)
    if not callable(made):
        raise ValueError(f"{path} has no function {function}")
    return made


@cache
def _run(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module
