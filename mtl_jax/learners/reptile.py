"""Reptile: move the initialisation towards the solution of each task."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from mtl_jax.learners.checks import check_above, check_counts, checked, is_labels, warn_of_rounding
from mtl_jax.learners.inner import check_inner, looks_at_loss, optimizer_step
from mtl_jax.learners.maml import Adapted, check_outputs, check_seen
from mtl_jax.learners.objective import Loss, objective, query_objective
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


@checks_arguments
def reptile(
    net: Model,
    inner_lr: float = 0.3,
    inner_steps: int = 5,
    test_steps: int | None = 50,
    inner_optimizer: optax.GradientTransformation | None = None,
    inner_rule: Literal["adam", "sgd"] = "sgd",
    batch: int | None = 10,
    loss: Loss | None = None,
) -> Learner:
    """Reptile: plain training on a task, whose end the initialisation then moves towards.

    theta <- theta + rate mean_i (phi_i - theta),  phi_i = inner_steps mini-batch steps from theta on task i

    `loss` is 1/2 ||theta - phi||^2 with phi a constant, so that its gradient in theta is theta - phi, and the outer
    rule of the paper is SGD. An episode of K shots and Q queries is K + Q training shots: both are trained on, since
    Reptile splits no task. `adapt` sees the support set alone.

    Args:
        net: a network with a head, such as conv4(ways=5) or mlp(1).
        inner_lr: rate of the inner rule.
        inner_steps: mini-batch steps of the training loss.
        test_steps: steps of `adapt`, as many as in training unless given.
        inner_optimizer: any optax transformation in its place; nothing is differentiated through it.
        inner_rule: "adam", of b1 = 0, or "sgd".
        batch: examples of a step, at most all; None for all of them in every step.
        loss: as in `maml`.

    Returns:
        Learner; theta are the network's parameters, phi is Adapted(params, stats), through which no gradient passes
        to theta. The accuracy (or mse) among loss's metrics is phi's on the query set, which it has been trained on.

    Raises:
        ValueError: a rate, step count or batch out of range, or an unknown rule.

    Reference: Nichol, Achiam and Schulman 2018, arXiv 1803.02999.

    Note: the authors' code keeps the inner Adam's second moment from task to task; here it starts anew in each. It
    shuffles a task's examples anew whenever they are used up; here each round takes one of every class, then the
    next of every class, always in the same order. Its test without transduction normalises each query together with
    the support set, where norm="support" takes the moments of the support set alone. The inner rule is theirs under
    inner_rule="adam", inner_lr=1e-3: as it starts anew in each task, it learns less here (two minutes on Omniglot,
    5-way 1-shot: 68.6 % against 91.3 % by SGD at 0.3).
    """
    if inner_optimizer is None:
        check_above(inner_lr=inner_lr)
    check_inner(inner_steps, test_steps=test_steps)
    warn_of_rounding(net, inner_steps)
    check_counts(batch=batch)
    named = {"adam": optax.adam(inner_lr, b1=0.0), "sgd": optax.sgd(inner_lr)}
    rule = named[inner_rule] if inner_optimizer is None else inner_optimizer

    def train(theta: PyTree, x: Array, y: Array, steps: int) -> PyTree:
        size, order = min(batch or len(x), len(x)), interleave(y)

        def step(carry: tuple[PyTree, Any], k: Array) -> tuple[tuple[PyTree, Any], None]:
            phi, state = carry
            rows = slice(None) if size == len(x) else order[(k * size + jnp.arange(size)) % len(x)]

            def of_rows(params: PyTree) -> Array:
                return objective(net.apply(params, x[rows], None)[0], y[rows], loss)[0]

            return optimizer_step(rule, of_rows if shown else None, jax.grad(of_rows)(phi), state, phi), None

        check_seen(net, theta, x, y)  # within a batch labels have no values
        theta = jax.lax.stop_gradient(theta)
        shown = looks_at_loss(rule, lambda p: objective(net.apply(p, x, None)[0], y, loss)[0], theta)
        return jax.lax.scan(step, (theta, rule.init(theta)), jnp.arange(steps))[0][0]

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Adapted:
        phi = train(theta, support_x, support_y, test_steps or inner_steps)
        adapted = Adapted(phi, net.apply(phi, support_x, None)[1])
        check_outputs(net, adapted, support_x, support_y)
        return adapted

    def predict(theta: PyTree, phi: Adapted, x: Array) -> Array:
        return net.apply(phi.params, x, phi.stats)[0]

    def task_loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        x = jnp.concatenate((episode.support_x, episode.query_x))
        y = jnp.concatenate((episode.support_y, episode.query_y))
        phi = train(theta, x, y, inner_steps)
        away = optax.tree.norm(jax.tree.map(jnp.subtract, theta, phi), squared=True)
        outputs = net.apply(phi, x, None)[0][len(episode.support_x) :]
        return 0.5 * away, query_objective(outputs, episode)[1]

    return checked(Learner(net.init, adapt, predict, task_loss))


def interleave(y: Array) -> Array:
    """The order of examples that takes the first of every class, then the second of every class, and so on.

    Args:
        y: [n] integer labels, in any order and numbers; float targets stay in theirs.

    Returns:
        [n] int32 indices.
    """
    if not is_labels(y):
        return jnp.arange(len(y), dtype=jnp.int32)
    rank = jnp.tril(y[:, None] == y, -1).sum(1)  # how many of its class came before
    return jnp.argsort(rank, stable=True).astype(jnp.int32)
