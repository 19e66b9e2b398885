"""Checkpoints of a run: the last state and the best one by validation, through orbax."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtl_jax.types import PyTree, TrainState

STATE = "state"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read: absent, truncated, or of another model."""


def open_manager(folder: Path, read_only: bool = False) -> Any:
    """An orbax CheckpointManager on `folder` that keeps the last and the best step; `close()` it after use."""
    import orbax.checkpoint as ocp  # slow to import: only runs that touch a checkpoint pay for it
    from orbax.checkpoint import checkpoint_managers as policies

    logging.getLogger("absl").setLevel(logging.ERROR)
    best = policies.BestN(n=1, get_metric_fn=lambda m: m["score"], keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        best_fn=lambda m: m["score"],
        best_mode="max",
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(1), best]),
        enable_async_checkpointing=False,  # a state is donated to the next step: it must be on disk by then
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        create=not read_only,
    )
    return ocp.CheckpointManager(folder.resolve(), options=options, item_handlers=ocp.StandardCheckpointHandler())


def save(manager: Any, state: TrainState, score: float | None) -> None:
    """Write `state` at its step, whole or not at all; the highest `score` is the best step, None never is."""
    import orbax.checkpoint as ocp

    step = int(state.step)
    if step in manager.all_steps():
        return
    args = ocp.args.StandardSave(jax.tree.map(np.asarray, _packed(state)))
    manager.save(step, args=args, metrics=None if score is None else {"score": score}, force=True)


def best_score(folder: Path) -> float | None:
    """The best step's validation score, or None where no step has one."""
    manager, _ = _find(folder, False)
    try:
        step = manager.best_step()
        return None if step is None else float(manager.metrics(step)["score"])
    finally:
        manager.close()


def restore(folder: Path, like: TrainState, best: bool = False) -> TrainState:
    """Read a run's last (or best) state.

    Args:
        folder: the run's checkpoints folder.
        like: a state of the same learner and model, for its structure and shapes; its values are not used.
        best: the best step by validation instead of the last.

    Raises:
        CheckpointError: the folder is empty, a file is truncated, or the state is of another model.
    """
    import orbax.checkpoint as ocp

    target = _abstract(_packed(like))
    manager, step = _find(folder, best)
    try:
        stored = _shapes(manager.item_metadata(step))
        wanted = {k: tuple(v.shape) for k, v in _leaves(target).items()}
        if stored is not None:
            _same_shapes(folder, step, stored, wanted)
        got = manager.restore(step, args=ocp.args.StandardRestore(target))
    except CheckpointError:
        raise
    except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
        raise _damaged(folder, step, error) from error
    finally:
        manager.close()
    state = TrainState(**{"tasks": like.tasks, **got})
    return state._replace(key=_like_key(state.key, like.key))


def load_theta(folder: Path, like: PyTree, best: bool | None = None) -> PyTree:
    """Read a run's meta-learned parameters alone, whatever optimiser and tasks it was trained with.

    Args:
        folder: the run's checkpoints folder.
        like: theta of the same learner and model, or its shapes.
        best: the best step by validation (True), the last (False), or the best where there is one (None).

    Returns:
        theta, with numpy leaves.

    Raises:
        CheckpointError: as `restore`.
    """
    best = best_score(folder) is not None if best is None else best
    manager, step = _find(folder, best)
    try:
        import orbax.checkpoint as ocp

        # Leaf by leaf, as numpy: nothing is asked of the optimiser's part, which is not ours to know.
        got = _leaves(manager.restore(step, args=ocp.args.StandardRestore())["theta"])
    except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
        raise _damaged(folder, step, error) from error
    finally:
        manager.close()
    wanted = _leaves(like)
    _same_shapes(folder, step, {k: np.shape(v) for k, v in got.items()}, {k: np.shape(v) for k, v in wanted.items()})
    return jax.tree.unflatten(jax.tree.structure(like), [np.asarray(got[name]) for name in wanted])


def _same_shapes(folder: Path, step: int, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    if stored != wanted:
        odd = sorted(k for k in stored.keys() | wanted.keys() if stored.get(k) != wanted.get(k))
        raise CheckpointError(
            f"{folder} at step {step} is of another model: {odd[0]} is {stored.get(odd[0], 'absent')} there and "
            f"{wanted.get(odd[0], 'absent')} here ({len(odd)} differ); give the settings it was trained with"
        )


def _damaged(folder: Path, step: int, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{folder} at step {step} cannot be read ({type(error).__name__}): it is truncated or damaged; train again"
    )


def _find(folder: Path, best: bool) -> tuple[Any, int]:
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoints in {folder}: give the folder of a run that mtl-jax train wrote")
    manager = open_manager(folder, read_only=True)
    try:
        step = manager.best_step() if best else manager.latest_step()
    except Exception as error:
        raise CheckpointError(
            f"{folder} cannot be read ({type(error).__name__}): it is damaged; train again"
        ) from error
    if step is None:
        manager.close()
        raise CheckpointError(f"no complete checkpoint in {folder}: the run had not saved one yet; train again")
    return manager, step


def _packed(state: TrainState) -> dict[str, Any]:
    """The state as orbax takes it: a key's data for the key, and nothing of a source that remembers nothing."""
    return {k: v for k, v in state._asdict().items() if k != "tasks" or jax.tree.leaves(v)} | {
        "key": _key_data(state.key)
    }


def _abstract(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype), tree)


def _leaves(tree: PyTree) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): v
        for path, v in jax.tree_util.tree_leaves_with_path(tree)
    }


def _shapes(metadata: Any) -> dict[str, tuple[int, ...]] | None:
    tree = getattr(metadata, "tree", metadata)
    leaves = {k: v for k, v in _leaves(tree).items() if hasattr(v, "shape")}
    return {k: tuple(v.shape) for k, v in leaves.items()} or None


def _key_data(key: Any) -> Any:
    return jax.random.key_data(key) if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else key


def _like_key(data: Any, like: Any) -> Any:
    if not jax.dtypes.issubdtype(like.dtype, jax.dtypes.prng_key):
        return data
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like))
