"""Weights that come with the package, by name, each with a card: what they are, and what not to use them for."""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

FOLDER = Path(__file__).parent.parent / "weights"


def names() -> list[str]:
    """The names of the weights that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def is_name(run: str | PathLike[str]) -> bool:
    """Whether this names shipped weights: a folder of that name comes first."""
    return str(run) in names() and not Path(run).exists()


def read_card(name: str) -> dict[str, Any]:
    """A card: "config", "about", "data" (and its terms), "command", "seed", "commit", "dtype", "tests", "not_for"."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def read_leaves(name: str) -> "dict[str, np.ndarray]":
    """theta's leaves in float32, by their paths."""
    import numpy as np

    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {path: file[path].astype(np.float32) for path in file.files}


def write(name: str, leaves: "Mapping[str, np.ndarray]", card: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Write weights with their card, each whole or not at all, for the package; return the file of weights."""
    import numpy as np

    from mtl_jax.run.metrics import whole_file, write_json

    target = folder / f"{name}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{k: v.astype(card["dtype"]) for k, v in leaves.items()})
    write_json(folder / f"{name}.json", card)
    return target
