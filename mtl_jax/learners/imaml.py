"""iMAML: the meta-gradient of a proximal inner problem, from its solution alone."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg

from mtl_jax.learners.checks import check_above, check_counts, check_least, warn_of_rounding
from mtl_jax.learners.inner import check_inner, inner_loop, inner_optimizer_or_sgd
from mtl_jax.learners.maml import Adapted, check_seen, learner_from_solver
from mtl_jax.learners.objective import Loss, objective
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Learner, Model, PyTree


@checks_arguments
def imaml(
    net: Model,
    inner_lr: float = 0.4,
    inner_steps: int = 10,
    test_steps: int | None = None,
    inner_optimizer: optax.GradientTransformation | None = None,
    regularization: float = 0.5,
    cg_steps: int = 5,
    damping: float = 10.0,
    loss: Loss | None = None,
    inner_momentum: float = 0.0,
) -> Learner:
    """Implicit MAML: the inner loop solves a proximal problem, and the meta-gradient does not look at its path.

    phi* = argmin_phi L_support(phi) + lambda/2 ||phi - theta||^2
    d L_query(phi*) / d theta = (I + H / lambda)^-1 grad L_query(phi*),  H the Hessian of L_support at phi*

    The inverse is applied by conjugate gradient, each step of which is one Hessian-vector product. Memory does not
    grow with inner_steps.

    Args:
        net: a network with a head, such as conv4(ways=5) or mlp(1).
        inner_lr: rate of the inner SGD, on the mean loss of the support set and the proximal term.
        inner_steps: inner steps of the training loss.
        test_steps: inner steps of `adapt`, as many as in training unless given.
        inner_optimizer: any optax transformation in place of SGD; nothing is differentiated through it.
        regularization: lambda, how strongly a task's weights are held at theta.
        cg_steps: most steps of conjugate gradient, from the first-order gradient, which 0 leaves as it is; it ends
            before when the residual is rounding.
        damping: added to lambda in that system (not in the inner problem). 0 is exact where I + H / lambda is positive
            definite; on images H has negative directions, which a small lambda lets blow up.
        loss: as in `maml`.
        inner_momentum: m of the inner SGD, v <- m v + grad, phi <- phi - inner_lr v; 0 for none.

    Returns:
        Learner; theta are the network's parameters, phi is Adapted(params, stats). The gradient is the exact one
        as inner_steps and cg_steps grow, without damping. It is for reverse mode alone.

    Raises:
        ValueError: a rate, step count or lambda out of range.

    Reference: Rajeswaran, Finn, Kakade and Levine 2019, arXiv 1909.04630.

    Note: the paper has lambda 2 and no damping; the authors' code solves ((1 + a) I + H / (lambda + b)) g = v, of which
        b is `damping` here (10 is their default too), and a only scales what Adam scales again.
    """
    rule = inner_optimizer_or_sgd(inner_optimizer, inner_lr, 1, inner_momentum)
    check_inner(inner_steps, test_steps=test_steps)
    warn_of_rounding(net, inner_steps)
    check_above(regularization=regularization)
    check_least(damping=damping)
    check_counts(0, cg_steps=cg_steps)

    def support_loss(params: PyTree, support_x: Array, support_y: Array) -> Array:
        return objective(net.apply(params, support_x, None)[0], support_y, loss)[0]

    @partial(jax.custom_vjp, nondiff_argnums=(3,))
    def solution(theta: PyTree, support_x: Array, support_y: Array, steps: int) -> PyTree:
        def proximal(phi: PyTree) -> Array:
            away = optax.tree.norm(jax.tree.map(jnp.subtract, phi, theta), squared=True)
            return support_loss(phi, support_x, support_y) + 0.5 * regularization * away

        return inner_loop(proximal, theta, rule, steps, order=1)[0]

    def forward(theta: PyTree, support_x: Array, support_y: Array, steps: int) -> tuple[PyTree, Any]:
        phi = solution(theta, support_x, support_y, steps)
        return phi, (phi, support_x, support_y)

    def backward(steps: int, kept: Any, v: PyTree) -> tuple[PyTree, Any, Any]:
        phi, support_x, support_y = kept
        grad_fn = jax.grad(support_loss)
        _, hessian = jax.linearize(lambda phi: grad_fn(phi, support_x, support_y), phi)
        rounding = float(jnp.finfo(jax.tree.leaves(v)[0].dtype).eps)

        def system(u: PyTree) -> PyTree:
            return jax.tree.map(lambda u, hu: u + hu / (regularization + damping), u, hessian(u))

        gradient, _ = cg(system, v, v, tol=rounding, maxiter=cg_steps)  # the residual costs a product from any start
        # the task's own data move the solution too: d phi* / d x = -(lambda I + H)^-1 d grad_phi L / d x
        _, data_vjp = jax.vjp(lambda x, y: grad_fn(phi, x, y), support_x, support_y)
        return gradient, *data_vjp(jax.tree.map(lambda g: -g / regularization, gradient))

    solution.defvjp(forward, backward)

    def solve(theta: PyTree, support_x: Array, support_y: Array, steps: int) -> Adapted:
        check_seen(net, theta, support_x, support_y)  # within `solution` labels have no values
        phi = solution(theta, support_x, support_y, steps)
        return Adapted(phi, net.apply(phi, support_x, None)[1])

    return learner_from_solver(net, net.init, solve, inner_steps, test_steps, loss)
