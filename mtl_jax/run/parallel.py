"""The meta-gradient of a batch of tasks, a few tasks at a time."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mtl_jax.types import Array, Episode, PyTree

TaskLoss = Callable[..., tuple[Array, dict[str, Array]]]  # (theta, one task, *shared) -> (loss, metrics)


def meta_gradient(
    loss: TaskLoss, theta: PyTree, tasks: PyTree, chunk: int, *shared: PyTree
) -> tuple[PyTree, dict[str, Array]]:
    """Gradient of the mean loss over tasks, `chunk` of them at a time on each device, gradients accumulated.

    g = 1/T sum_i d loss(theta, task_i) / d theta

    Few at a time bound the memory and stay in a CPU's cache; all at once fill an accelerator. Tasks are spread over the
    devices that there are, as evenly as their number allows, and the gradients summed once.

    Args:
        loss: (theta, one task, *shared) -> (scalar, flat dict of scalars).
        theta: what to differentiate in.
        tasks: any tree with a leading [tasks] axis: episodes, or the keys to draw them with.
        chunk: the width of the vmap; need not divide the number of tasks.
        shared: what else the loss reads, the same for all tasks; over several devices it may not close over arrays.

    Returns:
        (gradient, shaped as theta; mean metrics, with "loss" among them).

    Raises:
        ValueError: chunk below 1.
    """
    if chunk < 1:
        raise ValueError(f"task_chunk must be at least 1, not {chunk}")
    total = jax.tree.leaves(tasks)[0].shape[0]
    # Copies that fill the devices up count for nothing; where there are none, no task is weighed.
    filled = _filled(total, _mesh_here(total))
    weights = None if filled == total else jnp.asarray(np.arange(filled) < total, jnp.float32)

    def of_part(part: PyTree, theta: PyTree, *shared: PyTree) -> Any:
        return _summed(loss, theta, *part, chunk, *shared)

    sums = map_over_devices(of_part, (tasks, weights), theta, *shared, add=True)
    return jax.tree.map(lambda s: s / total, sums)


def map_over_devices(f: Callable[..., PyTree], tasks: PyTree, *shared: PyTree, add: bool = False) -> PyTree:
    """f(tasks, *shared), each device doing its share of the tasks; what it gives is joined along them, or added.

    Tasks that devices do not divide are filled up by copies of the first ones; what these give is left out of what is
    joined, while a sum must leave them out itself. Within another such call all is done where it is: the devices have
    their shares already.
    """
    total = jax.tree.leaves(tasks)[0].shape[0]
    mesh = _mesh_here(total)
    if mesh is None:
        return f(tasks, *shared)
    filled, gathers = _filled(total, mesh), not add and jax.process_count() > 1

    def fill(a: Array) -> Array:
        return a if len(a) == filled else a[np.arange(filled) % total]

    def share(*args: PyTree) -> PyTree:
        if add:
            return _added(f(*args))
        # Other processes' results are not this one's to read: each is given all of them.
        return jax.lax.all_gather(f(*args), "tasks", tiled=True) if gathers else f(*args)

    specs = (P("tasks"), *(P() for _ in shared))
    out = P() if add or gathers else P("tasks")
    over_devices = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
    result = over_devices(jax.tree.map(fill, tasks), *shared)
    return result if add or filled == total else jax.tree.map(lambda a: a[:total], result)


def map_in_chunks(f: Callable[..., PyTree], tasks: PyTree, chunk: int) -> PyTree:
    """f of each task, `chunk` of them at a time, which need not divide their number; joined along the leading axis.

    One at a time is no vmap: that would leave an axis of one in every operation, and an axis of one costs a CPU much.
    """
    return jax.lax.map(f, tasks, batch_size=None if chunk == 1 else chunk)


def _added(tree: PyTree) -> PyTree:
    """The sum over devices, all leaves as one vector: one all-reduce, not one a leaf."""
    vector, tree_of = ravel_pytree(tree)
    return tree_of(jax.lax.psum(vector, "tasks"))


@cache
def task_mesh(tasks: int) -> Mesh | None:
    """The devices that share this many tasks, or None where that is one.

    They are the fewest of those with which the fullest has as few tasks as with all: 3 of 4 for 5 tasks. Of several
    processes each takes part with all of its devices. A CPU's devices are its cores, all of which one device uses as
    well: there copies that fill them up may cost a tenth at most (5 tasks on 2 cores took 1.4 times as long).
    """
    devices = jax.devices()
    share = len(devices)
    if jax.process_count() == 1:
        share = -(-tasks // -(-tasks // share))
        if jax.default_backend() == "cpu":
            share = max(n for n in range(1, share + 1) if -(-tasks // n) * n <= 1.1 * tasks)
    return None if share == 1 else Mesh(np.array(devices[:share]), ("tasks",))


def _mesh_here(tasks: int) -> Mesh | None:
    """`task_mesh`, or None within a call that has spread its tasks already."""
    return None if jax.sharding.get_abstract_mesh().manual_axes else task_mesh(tasks)


def _filled(tasks: int, mesh: Mesh | None) -> int:
    """The least number of tasks, from this one on, that the devices divide."""
    return tasks if mesh is None else -(-tasks // mesh.size) * mesh.size


def spread(tree: PyTree, tasks: int) -> PyTree:
    """A tree with a leading [tasks] axis, each device that shares them given its part, if all parts are equal."""
    mesh = task_mesh(tasks)
    if mesh is None or tasks % mesh.size:
        return replicate(tree, tasks)
    return _placed(tree, NamedSharding(mesh, P("tasks")))


def replicate(tree: PyTree, tasks: int) -> PyTree:
    """The same values on every device that shares this many tasks, so that a step finds them where it leaves them."""
    mesh = task_mesh(tasks)
    return tree if mesh is None else _placed(tree, NamedSharding(mesh, P()))


def _placed(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """The tree's values over these devices; over those of several processes each process gives its own devices'."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def place(a: Any) -> Any:
        if not getattr(a, "is_fully_addressable", True):  # it lies over all processes already
            return a
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(a)), impl=jax.random.key_impl(a))
        values = np.asarray(a)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(place, tree)


def _summed(loss: TaskLoss, theta: PyTree, tasks: PyTree, weights: Array | None, chunk: int, *shared: PyTree) -> Any:
    total = jax.tree.leaves(tasks)[0].shape[0]
    chunk = min(chunk, total)
    whole = total // chunk * chunk

    def summed(theta: PyTree, part: PyTree, *shared: PyTree) -> tuple[Array, dict[str, Array]]:
        tasks, weights = part
        if chunk == 1:  # no vmap: see map_in_chunks
            value, metrics = loss(theta, jax.tree.map(lambda a: a[0], tasks), *shared)
            metrics = {**metrics, "loss": value}
            return (value, metrics) if weights is None else _times((value, metrics), weights[0])
        losses, metrics = jax.vmap(lambda task: loss(theta, task, *shared))(tasks)
        metrics = {**metrics, "loss": losses}
        if weights is not None:
            losses, metrics = _times((losses, metrics), weights)
        return losses.sum(), jax.tree.map(lambda m: m.sum(0), metrics)

    traced_once = jax.jit(jax.value_and_grad(summed, has_aux=True), inline=True)  # for its shapes and in the scan

    def part_gradient(part: PyTree) -> tuple[PyTree, dict[str, Array]]:
        (_, metrics), grads = traced_once(theta, part, *shared)
        return grads, metrics

    given = (tasks, weights)
    if whole == chunk:  # a single chunk needs no loop
        sums = part_gradient(jax.tree.map(lambda a: a[:chunk], given))
    else:
        parts = jax.tree.map(lambda a: a[:whole].reshape(whole // chunk, chunk, *a.shape[1:]), given)
        zero = jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype),
            jax.eval_shape(part_gradient, jax.tree.map(lambda a: a[0], parts)),
        )
        sums, _ = jax.lax.scan(lambda acc, p: (jax.tree.map(jnp.add, acc, part_gradient(p)), None), zero, parts)
    if whole < total:
        rest = part_gradient(jax.tree.map(lambda a: a[whole:], given))
        sums = jax.tree.map(jnp.add, sums, rest)
    return sums


def _times(tree: PyTree, weights: Array) -> PyTree:
    return jax.tree.map(lambda a: a * weights, tree)


MOST = 256  # tasks at a time on an accelerator: as many as fill it, and not so many that 600 episodes exceed its memory


def auto_chunk(episode: Episode, tasks: int) -> int:
    """Tasks at a time that suit the backend: up to MOST on an accelerator, about 4,000 input values' worth on a CPU."""
    if jax.default_backend() != "cpu":
        return min(tasks, MOST)
    return max(1, min(tasks, 4096 // (episode.support_x.size + episode.query_x.size)))
