"""Prototypical networks: each class is the mean of its support features."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.learners.checks import check_above, check_counts, checked, feature_network
from mtl_jax.learners.objective import as_dtype, count_ways, never_absent, query_objective, task_ways
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree

Distance = Callable[[Array, Array], Array]  # ([n, d], [ways, d]) -> [n, ways]


class Prototypes(NamedTuple):
    """One task's solution: class means [ways, d], which of them exist [ways], and the support set's moments."""

    centres: Array
    present: Array
    stats: Any


def squared_euclidean(x: Array, centres: Array) -> Array:
    """||x - c||^2 of every pair of x [n, d] and centres [ways, d]: [n, ways].

    Taken apart as ||x||^2 - 2 x c + ||c||^2, which cancels far from the origin; so the origin is moved among the
    centres first, by a constant as far as derivatives go, since it changes no distance.
    """
    origin = jax.lax.stop_gradient(centres.mean(0))
    x, centres = x - origin, centres - origin
    products = jnp.matmul(x, centres.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(jnp.square(x).sum(-1)[:, None] - 2.0 * products + jnp.square(centres).sum(-1), 0.0)


def cosine(x: Array, centres: Array) -> Array:
    """1 - cos(x, c) of every pair of x [n, d] and centres [ways, d]: [n, ways]."""
    return 1.0 - unit(x) @ unit(centres).T


def unit(v: Array) -> Array:
    """Rows of v [n, d] divided by their length, of any size; a row of zeros stays so, and has a gradient of zeros."""
    size = jax.lax.stop_gradient(jnp.abs(v).max(-1, keepdims=True))  # first to the size of 1: squares neither vanish
    some = size > 0  # nor overflow
    v = v / jnp.where(some, size, 1.0)
    return v * jax.lax.rsqrt(jnp.where(some, jnp.square(v).sum(-1, keepdims=True), 1.0)) * some.astype(v.dtype)


def class_means(features: Array, y: Array, ways: int) -> tuple[Array, Array]:
    """Mean features [ways, d] of each label's rows of features [n, d], and which labels occur [ways] bool.

    A class without rows gets the mean of all: among the others it moves no distance's origin away from them.
    """
    member = jax.nn.one_hot(y, ways, axis=0, dtype=features.dtype)  # [ways, n]
    count = member.sum(1)
    member = jnp.where(count[:, None] > 0, member, 1.0)
    return member @ features / member.sum(1)[:, None], count > 0


@checks_arguments
def protonet(
    net: Model,
    distance: Literal["euclidean", "cosine"] | Distance = "euclidean",
    temperature: float | None = None,
    ways: int | None = None,
) -> Learner:
    """Prototypical networks.

    c_k = mean of f_theta(x) over the support of class k;  y = argmin_k d(f_theta(x), c_k)

    Args:
        net: a network without head, such as conv4(ways=None).
        distance: "euclidean" (squared), "cosine", or any function ([n, d], [ways, d]) -> [n, ways].
        temperature: logits are -temperature * d; 1 unless given, 10 for cosine, whose range is short.
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta are the network's parameters, phi is Prototypes(centres, present, stats). While tracing with
        `ways` unknown, predict gives a logit for each support example; those past the true ways never win.

    Raises:
        ValueError: an unknown distance, or a temperature not above 0.

    Reference: Snell, Swersky and Zemel 2017, arXiv 1703.05175.
    """
    named: dict[str, Distance] = {"euclidean": squared_euclidean, "cosine": cosine}
    if not callable(distance) and distance not in named:
        raise ValueError(f"unknown distance {distance!r}: choose {', '.join(named)}, or give a function")
    measure = distance if callable(distance) else named[distance]
    scale = temperature if temperature is not None else 10.0 if distance == "cosine" else 1.0
    check_above(temperature=scale)
    check_counts(ways=ways)
    net = feature_network(net, "protonet")

    def solve(theta: PyTree, support_x: Array, support_y: Array, slots: int) -> Prototypes:
        features, stats = net.apply(theta, support_x, None)
        return Prototypes(*class_means(features, support_y, slots), stats)

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Prototypes:
        return solve(theta, support_x, support_y, count_ways(support_y, ways))

    def predict(theta: PyTree, phi: Prototypes, x: Array) -> Array:
        features, _ = net.apply(theta, x, phi.stats)
        return never_absent(-as_dtype(scale, features.dtype) * measure(features, phi.centres), phi.present)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        phi = solve(theta, episode.support_x, episode.support_y, task_ways(episode, ways))
        return query_objective(predict(theta, phi, episode.query_x), episode, spare=True)

    return checked(Learner(net.init, adapt, predict, loss), labels_only=True)
