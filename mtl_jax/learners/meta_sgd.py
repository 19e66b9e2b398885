"""Meta-SGD: MAML that also learns the inner rate of every single weight."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.learners.checks import warn_of_rounding
from mtl_jax.learners.inner import check_inner, inner_loop, unit_rule
from mtl_jax.learners.maml import Adapted, learner_from_solver
from mtl_jax.learners.objective import Loss, objective
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Learner, Model, PyTree


@checks_arguments
def meta_sgd(
    net: Model,
    inner_lr: float = 0.4,
    inner_steps: int = 1,
    order: int = 2,
    test_steps: int | None = 3,
    remat: bool = False,
    inner_optimizer: optax.GradientTransformation | None = None,
    loss: Loss | None = None,
    inner_momentum: float = 0.0,
) -> Learner:
    """MAML with a learned rate, of either sign, for every weight.

    phi_i = theta - rates * grad L_support_i(theta), elementwise, inner_steps times; theta and rates are meta-learned

    Args:
        net: a network with a head, such as conv4(ways=5) or mlp(1).
        inner_lr: what every rate starts at.
        inner_steps: inner steps of the training loss, all with the same rates.
        order: 2 for the exact meta-gradient; 1 takes inner gradients for constants.
        test_steps: inner steps of `adapt`, as many as in training unless given.
        remat: keep no activations of the inner steps; the outer backward pass computes them again.
        inner_optimizer: an optax transformation whose updates the rates multiply instead of the gradient; they then
            start at 1. At order 2 Adam needs eps_root above 0.
        loss: as in `maml`.
        inner_momentum: m of the inner SGD, v <- m v + grad, phi <- phi - rates * v; 0 for none.

    Returns:
        Learner; theta is {"net": parameters, "rates": a tree like them}, phi is Adapted(params, stats).

    Raises:
        ValueError: a setting out of range, or an inner optimiser that breaks the meta-gradient.

    Reference: Li, Zhou, Chen and Li 2017, arXiv 1707.03141.

    Note: the paper takes one step and draws the first rates at random from a range; here they start alike.
    """
    rule, start = unit_rule(inner_optimizer, inner_lr, order, inner_momentum)
    check_inner(inner_steps, order, test_steps)
    warn_of_rounding(net, inner_steps)

    def init(key: Array, x: Array) -> PyTree:
        params = net.init(key, x)
        return {"net": params, "rates": jax.tree.map(lambda p: jnp.full_like(p, start), params)}

    def solve(theta: PyTree, support_x: Array, support_y: Array, steps: int) -> Adapted:
        def support_loss(params: PyTree) -> Array:
            return objective(net.apply(params, support_x, None)[0], support_y, loss)[0]

        scale = optax.stateless(lambda updates, params: jax.tree.map(jnp.multiply, updates, theta["rates"]))
        phi, _ = inner_loop(support_loss, theta["net"], optax.chain(rule, scale), steps, order, remat)
        return Adapted(phi, net.apply(phi, support_x, None)[1])

    return learner_from_solver(net, init, solve, inner_steps, test_steps, loss)
