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
    devices that there are, if these divide their number, and the gradients summed once.

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

    def of_part(part: PyTree, theta: PyTree, *shared: PyTree) -> Any:
        return _summed(loss, theta, part, chunk, *shared)

    sums = map_over_devices(of_part, tasks, theta, *shared, add=True)
    return jax.tree.map(lambda s: s / total, sums)


def map_over_devices(f: Callable[..., PyTree], tasks: PyTree, *shared: PyTree, add: bool = False) -> PyTree:
    """f(tasks, *shared), each device doing its share of the tasks; what it gives is joined along them, or added.

    Within another such call all is done where it is: the devices have their shares already.
    """
    mesh = task_mesh(jax.tree.leaves(tasks)[0].shape[0])
    if mesh is None or jax.sharding.get_abstract_mesh().manual_axes:
        return f(tasks, *shared)
    share = (lambda *args: _added(f(*args))) if add else f
    specs = (P("tasks"), *(P() for _ in shared))
    out = P() if add else P("tasks")
    return jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)(tasks, *shared)


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
    """The devices that share this many tasks: as many as divide them, or None where that is one."""
    devices = jax.local_devices()
    share = max(n for n in range(1, len(devices) + 1) if tasks % n == 0)
    return None if share == 1 else Mesh(np.array(devices[:share]), ("tasks",))


def spread(tree: PyTree, tasks: int) -> PyTree:
    """A tree with a leading [tasks] axis, each device that shares them given its part."""
    mesh = task_mesh(tasks)
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, P("tasks")))


def replicate(tree: PyTree, tasks: int) -> PyTree:
    """The same values on every device that shares this many tasks, so that a step finds them where it leaves them."""
    mesh = task_mesh(tasks)
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, P()))


def _summed(loss: TaskLoss, theta: PyTree, tasks: PyTree, chunk: int, *shared: PyTree) -> Any:
    total = jax.tree.leaves(tasks)[0].shape[0]
    chunk = min(chunk, total)
    whole = total // chunk * chunk

    def summed(theta: PyTree, part: PyTree, *shared: PyTree) -> tuple[Array, dict[str, Array]]:
        if chunk == 1:  # no vmap: see map_in_chunks
            value, metrics = loss(theta, jax.tree.map(lambda a: a[0], part), *shared)
            return value, {**metrics, "loss": value}
        losses, metrics = jax.vmap(lambda task: loss(theta, task, *shared))(part)
        return losses.sum(), jax.tree.map(lambda m: m.sum(0), {**metrics, "loss": losses})

    traced_once = jax.jit(jax.value_and_grad(summed, has_aux=True), inline=True)  # for its shapes and in the scan

    def part_gradient(part: PyTree) -> tuple[PyTree, dict[str, Array]]:
        (_, metrics), grads = traced_once(theta, part, *shared)
        return grads, metrics

    if whole == chunk:  # a single chunk needs no loop
        sums = part_gradient(jax.tree.map(lambda a: a[:chunk], tasks))
    else:
        parts = jax.tree.map(lambda a: a[:whole].reshape(whole // chunk, chunk, *a.shape[1:]), tasks)
        zero = jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype),
            jax.eval_shape(part_gradient, jax.tree.map(lambda a: a[0], parts)),
        )
        sums, _ = jax.lax.scan(lambda acc, p: (jax.tree.map(jnp.add, acc, part_gradient(p)), None), zero, parts)
    if whole < total:
        rest = part_gradient(jax.tree.map(lambda a: a[whole:], tasks))
        sums = jax.tree.map(jnp.add, sums, rest)
    return sums


MOST = 256  # tasks at a time on an accelerator: as many as fill it, and not so many that 600 episodes exceed its memory


def auto_chunk(episode: Episode, tasks: int) -> int:
    """Tasks at a time that suit the backend: up to MOST on an accelerator, about 4,000 input values' worth on a CPU."""
    if jax.default_backend() != "cpu":
        return min(tasks, MOST)
    return max(1, min(tasks, 4096 // (episode.support_x.size + episode.query_x.size)))
