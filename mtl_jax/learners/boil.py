"""BOIL: body only in the inner loop; the head stays where meta-training put it."""

import optax

from mtl_jax.learners.checks import split_head, warn_of_rounding
from mtl_jax.learners.inner import check_inner, inner_loop, inner_optimizer_or_sgd
from mtl_jax.learners.maml import Adapted, learner_from_solver
from mtl_jax.learners.objective import Loss, objective
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Learner, Model, PyTree


@checks_arguments
def boil(
    net: Model,
    inner_lr: float = 0.4,
    inner_steps: int = 5,
    order: int = 2,
    test_steps: int | None = None,
    remat: bool = False,
    inner_optimizer: optax.GradientTransformation | None = None,
    loss: Loss | None = None,
    inner_momentum: float = 0.0,
) -> Learner:
    """Body only in the inner loop: MAML whose inner steps leave the head alone.

    body_i = body - inner_lr grad_body L_support_i(body, head), inner_steps times;  phi_i = (body_i, head)

    Args:
        net: a network with a head, such as conv4(ways=5) or mlp(1).
        inner_lr: rate of the inner SGD, on the mean loss of the support set.
        inner_steps: inner steps of the training loss.
        order: 2 for the exact meta-gradient; 1 takes inner gradients for constants.
        test_steps: inner steps of `adapt`, as many as in training unless given.
        remat: keep no activations of the inner steps; the outer backward pass computes them again.
        inner_optimizer: any optax transformation in place of SGD; at order 2 Adam needs eps_root above 0.
        loss: as in `maml`.
        inner_momentum: m of the inner SGD, v <- m v + grad, phi <- phi - inner_lr v; 0 for none.

    Returns:
        Learner; theta are the network's parameters, phi is Adapted(params, stats), the head in it as in theta.

    Raises:
        ValueError: a setting out of range, an inner optimiser that breaks the meta-gradient, or (in init or while
            tracing) a network without head.

    Reference: Oh, Yoo, Kim and Yun 2020, arXiv 2008.08882.
    """
    rule = inner_optimizer_or_sgd(inner_optimizer, inner_lr, order, inner_momentum)
    check_inner(inner_steps, order, test_steps)
    warn_of_rounding(net, inner_steps)

    def init(key: Array, x: Array) -> PyTree:
        theta = net.init(key, x)
        split_head(theta)
        return theta

    def solve(theta: PyTree, support_x: Array, support_y: Array, steps: int) -> Adapted:
        body, head = split_head(theta)

        def support_loss(body: PyTree) -> Array:
            return objective(net.apply({**body, "head": head}, support_x, None)[0], support_y, loss)[0]

        body, _ = inner_loop(support_loss, body, rule, steps, order, remat)
        params = {**body, "head": head}
        return Adapted(params, net.apply(params, support_x, None)[1])

    return learner_from_solver(net, init, solve, inner_steps, test_steps, loss)
