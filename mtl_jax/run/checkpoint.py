"""Checkpoints of a run through orbax: the last two states and the best ones by validation, each with its digest."""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from mtl_jax.run.average import result_theta
from mtl_jax.run.metrics import write_json
from mtl_jax.run.saved import index_file, read_index, read_scores, saved_steps
from mtl_jax.types import PyTree, TrainState

Read = TypeVar("Read")

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint that cannot be read: absent, truncated, damaged, or of another model."""


class OtherModelError(CheckpointError):
    """A checkpoint of another model than the one it is read for."""


def open_manager(folder: Path, read_only: bool = False) -> Any:
    """An orbax CheckpointManager on `folder`; `close()` it after use. Which steps are kept is `save`'s affair."""
    import orbax.checkpoint as ocp  # slow to import: only runs that touch a checkpoint pay for it

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what is damaged is said once, in our words
    if not read_only:
        folder.mkdir(parents=True, exist_ok=True)
    # Every process holds the whole state: the first one writes it, and each reads for itself.
    mine = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=mine, active_processes={mine}, barrier_sync_key_prefix=f"process{mine}"
    )
    options = ocp.CheckpointManagerOptions(
        enable_async_checkpointing=False,  # a state is donated to the next step: it must be on disk by then
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        create=False,
        multiprocessing_options=alone if jax.process_count() > 1 else ocp.options.MultiprocessingOptions(),
    )
    return ocp.CheckpointManager(folder.resolve(), options=options, item_handlers=ocp.StandardCheckpointHandler())


def exists(folder: Path) -> bool:
    """Whether a run's checkpoints folder holds a step that was written whole."""
    return bool(saved_steps(folder))


def save(manager: Any, state: TrainState, score: float | None, keep_best: int = 1) -> None:
    """Write `state` at its step, whole or not at all; the last two and the `keep_best` of highest `score` are kept."""
    import orbax.checkpoint as ocp

    step, folder = int(state.step), Path(manager.directory)
    if step in manager.all_steps():
        return
    packed = jax.tree.map(np.asarray, _packed(state))
    result = jax.tree.map(np.asarray, result_theta(state))
    manager.save(step, args=ocp.args.StandardSave(packed), force=True)
    index = read_index(folder) | {str(step): {"state": digest(packed), "theta": digest(result), "score": score}}
    steps = sorted(manager.all_steps())
    kept = {*steps[-2:], *list(read_scores(folder, index))[:keep_best]}
    write_json(index_file(folder), {k: v for k, v in index.items() if int(k) in kept})
    for old in set(steps) - kept:
        manager.delete(old)


def drop_after(manager: Any, step: int) -> None:
    """Remove the steps after `step`: damaged ones, that training will come to again."""
    for later in manager.all_steps():
        if later > step:
            manager.delete(later)


def restore(folder: Path, like: TrainState, best: bool = False) -> TrainState:
    """Read a run's last (or best) state; where it is damaged, the newest one that is not, which a warning says.

    Args:
        folder: the run's checkpoints folder.
        like: a state of the same learner and model, for its structure and shapes; its values are not used.
        best: the best step by validation instead of the last.

    Raises:
        CheckpointError: the folder is empty, every state in it is damaged, or they are of another model.
    """
    target = _abstract(_packed(like))
    wanted = {k: tuple(v.shape) for k, v in _leaves(target).items()}

    def read(manager: Any, step: int) -> dict[str, Any]:
        import orbax.checkpoint as ocp

        stored = _shapes(manager.item_metadata(step))
        if stored is not None:
            _same_shapes(folder, step, stored, wanted)
        got = manager.restore(step, args=ocp.args.StandardRestore(target))
        _check_digest(folder, step, "state", got)
        return got

    state = TrainState(**{"tasks": like.tasks, **_newest_good(folder, best, read)})
    return state._replace(key=_like_key(state.key, like.key))


def load_theta(folder: Path, like: PyTree, best: bool | None = None) -> PyTree:
    """Read a run's meta-learned parameters alone (or their average), whatever it was trained with.

    Args:
        folder: the run's checkpoints folder.
        like: theta of the same learner and model, or its shapes.
        best: the best step by validation (True), the last (False), or the best where there is one (None).

    Returns:
        theta, with numpy leaves.

    Raises:
        CheckpointError: as `restore`.
    """
    best = bool(read_scores(folder)) if best is None else best
    return _newest_good(folder, best, lambda manager, step: _read_theta(folder, manager, step, like))


def load_best(folder: Path, like: PyTree, count: int) -> PyTree:
    """Read the meta-learned parameters of a run's `count` best validations, for `learners.ensemble.ensemble`.

    Args:
        folder: the run's checkpoints folder.
        like: theta of the same learner and model, or its shapes.
        count: how many; a run keeps as many as its `keep_best` says.

    Returns:
        theta with a leading axis [count], best first, with numpy leaves.

    Raises:
        CheckpointError: fewer are kept, or one of them is damaged or of another model.
    """
    steps = list(read_scores(folder))
    if count > (kept := len(steps)):
        raise CheckpointError(
            f"{folder.parent} keeps {kept} checkpoint{'' if kept == 1 else 's'} with a validation score, not {count}: "
            f"ask for {max(1, kept)} at most, or train with --keep-best {count}"
        )
    manager = open_manager(folder, read_only=True)
    try:
        thetas = [_read_theta(folder, manager, step, like) for step in steps[:count]]
    except CheckpointError:
        raise
    except Exception as error:  # as in _newest_good
        raise CheckpointError(f"one of the {count} best checkpoints in {folder} is damaged: train again") from error
    finally:
        manager.close()
    return jax.tree.map(lambda *leaves: np.stack(leaves), *thetas)


def _read_theta(folder: Path, manager: Any, step: int, like: PyTree) -> PyTree:
    """theta of one step, or its average; CheckpointError for what has changed or is of another model."""
    import orbax.checkpoint as ocp

    # Leaf by leaf, as numpy: nothing is asked of the optimiser's part, which is not ours to know.
    whole = manager.restore(step, args=ocp.args.StandardRestore())
    rule = whole.get("opt_state")
    got = rule["average"] if isinstance(rule, dict) and "average" in rule else whole["theta"]
    _check_digest(folder, step, "theta", got)
    leaves, wanted = _leaves(got), _leaves(like)
    shapes = ({k: np.shape(v) for k, v in each.items()} for each in (leaves, wanted))
    _same_shapes(folder, step, *shapes)
    return jax.tree.unflatten(jax.tree.structure(like), [np.asarray(leaves[name]) for name in wanted])


def digest(tree: PyTree) -> str:
    """SHA-256 of a tree's leaves, with their names, dtypes and shapes."""
    total = hashlib.sha256()
    for name, leaf in sorted(_leaves(tree).items()):
        array = np.asarray(leaf)
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _newest_good(folder: Path, best: bool, read: Callable[[Any, int], Read]) -> Read:
    """What `read` gives of the step asked for, or of the newest whose files are as they were written."""
    steps = saved_steps(folder)
    if not steps:
        what = "no complete checkpoint" if folder.is_dir() else "no checkpoints"
        raise CheckpointError(f"{what} in {folder}: give the folder of a run that has saved one, or train again")
    first = next(iter(read_scores(folder)), steps[-1]) if best else steps[-1]
    failed: tuple[int, Exception] | None = None
    for step in (first, *(s for s in reversed(steps) if s != first)):
        manager = None
        try:
            manager = open_manager(folder, read_only=True)
            got = read(manager, step)
        except OtherModelError:
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
            failed = failed or (step, error)
            continue
        finally:
            if manager is not None:
                manager.close()
        if failed:
            text = "the checkpoint of step %d in %s is damaged (%s): that of step %d is used in its place"
            log.warning(text, failed[0], folder, type(failed[1]).__name__, step)
        return got
    assert failed is not None  # there is at least one step
    raise CheckpointError(
        f"{folder} at step {failed[0]} cannot be read ({type(failed[1]).__name__}), nor can any other: "
        "it is truncated or damaged; train again"
    ) from failed[1]


def _check_digest(folder: Path, step: int, part: str, tree: PyTree) -> None:
    said = read_index(folder).get(str(step))
    if said is not None and said.get(part) != digest(tree):
        raise CheckpointError(f"{folder} at step {step} is not what was written: a file of it has changed")


def _same_shapes(folder: Path, step: int, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    if stored != wanted:
        odd = sorted(k for k in stored.keys() | wanted.keys() if stored.get(k) != wanted.get(k))
        raise OtherModelError(
            f"{folder} at step {step} is of another model: {odd[0]} is {stored.get(odd[0], 'absent')} there and "
            f"{wanted.get(odd[0], 'absent')} here ({len(odd)} differ); give the settings it was trained with"
        )


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
