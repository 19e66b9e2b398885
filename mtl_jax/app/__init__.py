"""The application: from names and numbers to engine calls."""

from mtl_jax.app.runs import Run, load_run

__all__ = ["Run", "load_run"]
