"""Meta-transfer learning in JAX: learn from many source tasks how to adapt to a new one."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl_jax import learners, models
    from mtl_jax.data import datasets
    from mtl_jax.data.episodes import sample_episode
    from mtl_jax.data.pool import ClassPool
    from mtl_jax.data.regression import RegressionPool
    from mtl_jax.run.evaluate import evaluate
    from mtl_jax.run.train import train
    from mtl_jax.types import Episode, Learner, Model, TaskSource, TrainState

__all__ = [
    "ClassPool",
    "Episode",
    "Learner",
    "Model",
    "RegressionPool",
    "TaskSource",
    "TrainState",
    "datasets",
    "evaluate",
    "learners",
    "models",
    "sample_episode",
    "train",
]
__version__ = "0.2.0"

_HOMES = {
    "ClassPool": "mtl_jax.data.pool",
    "Episode": "mtl_jax.types",
    "Learner": "mtl_jax.types",
    "Model": "mtl_jax.types",
    "RegressionPool": "mtl_jax.data.regression",
    "TaskSource": "mtl_jax.types",
    "TrainState": "mtl_jax.types",
    "datasets": "mtl_jax.data",
    "evaluate": "mtl_jax.run.evaluate",
    "learners": "mtl_jax",
    "models": "mtl_jax",
    "sample_episode": "mtl_jax.data.episodes",
    "train": "mtl_jax.run.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: the command line answers --help without loading JAX."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mtl_jax' has no attribute {name!r}")
    home = _HOMES[name]
    if home in ("mtl_jax", "mtl_jax.data"):
        return importlib.import_module(f"{home}.{name}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
