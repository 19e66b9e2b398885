"""The meta-gradient of a batch of tasks, a few tasks at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mtl_jax.types import Array, Episode, PyTree

TaskLoss = Callable[[PyTree, PyTree], tuple[Array, dict[str, Array]]]  # (theta, one task) -> (loss, metrics)


def meta_gradient(loss: TaskLoss, theta: PyTree, tasks: PyTree, chunk: int) -> tuple[PyTree, dict[str, Array]]:
    """Gradient of the mean loss over tasks, `chunk` of them at a time, gradients accumulated.

    g = 1/T sum_i d loss(theta, task_i) / d theta

    Few at a time bound the memory and stay in a CPU's cache; all at once fill an accelerator.

    Args:
        loss: (theta, one task) -> (scalar, flat dict of scalars).
        theta: what to differentiate in.
        tasks: any tree with a leading [tasks] axis: episodes, or the keys to draw them with.
        chunk: the width of the vmap; need not divide the number of tasks.

    Returns:
        (gradient, shaped as theta; mean metrics, with "loss" among them).

    Raises:
        ValueError: chunk below 1.
    """
    if chunk < 1:
        raise ValueError(f"task_chunk must be at least 1, not {chunk}")
    total = jax.tree.leaves(tasks)[0].shape[0]
    chunk = min(chunk, total)
    whole = total // chunk * chunk

    def summed(theta: PyTree, part: PyTree) -> tuple[Array, dict[str, Array]]:
        losses, metrics = jax.vmap(loss, in_axes=(None, 0))(theta, part)
        return losses.sum(), jax.tree.map(lambda m: m.sum(0), {**metrics, "loss": losses})

    def part_gradient(part: PyTree) -> tuple[PyTree, dict[str, Array]]:
        (_, metrics), grads = jax.value_and_grad(summed, has_aux=True)(theta, part)
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
    return jax.tree.map(lambda s: s / total, sums)


def auto_chunk(episode: Episode, tasks: int) -> int:
    """Tasks at a time that suit this backend: all on an accelerator; on a CPU, about 4,000 input values' worth."""
    if jax.default_backend() != "cpu":
        return tasks
    return max(1, min(tasks, 4096 // (episode.support_x.size + episode.query_x.size)))
