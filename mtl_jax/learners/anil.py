"""ANIL: almost no inner loop; only the head adapts, on features that are computed once."""

import optax

from mtl_jax.learners.checks import check_linear_head, head_features, split_head
from mtl_jax.learners.inner import check_inner, inner_loop, inner_optimizer_or_sgd, linear
from mtl_jax.learners.maml import Adapted, learner_from_solver
from mtl_jax.learners.objective import Loss, objective
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Learner, Model, PyTree


@checks_arguments
def anil(
    net: Model,
    inner_lr: float = 0.4,
    inner_steps: int = 10,
    order: int = 2,
    test_steps: int | None = None,
    inner_optimizer: optax.GradientTransformation | None = None,
    loss: Loss | None = None,
    inner_momentum: float = 0.0,
) -> Learner:
    """Almost no inner loop: MAML whose inner steps move the head alone.

    head_i = head - inner_lr grad_head L_support_i(body, head), inner_steps times;  phi_i = (body, head_i)

    Args:
        net: a network with a linear head, whose parameters without "head" give features, such as conv4(ways=5).
        inner_lr: rate of the inner SGD, on the mean loss of the support set.
        inner_steps: inner steps of the training loss.
        order: 2 for the exact meta-gradient; 1 takes inner gradients for constants.
        test_steps: inner steps of `adapt`, as many as in training unless given.
        inner_optimizer: any optax transformation in place of SGD; at order 2 Adam needs eps_root above 0.
        loss: as in `maml`.
        inner_momentum: m of the inner SGD, v <- m v + grad, phi <- phi - inner_lr v; 0 for none.

    Returns:
        Learner; theta are the network's parameters, phi is Adapted(params, stats), the body in it as in theta.

    Raises:
        ValueError: a setting out of range, an inner optimiser that breaks the meta-gradient, or (in init or while
            tracing) a network without a linear head, or that gives no features without it.

    Reference: Raghu, Raghu, Bengio and Vinyals 2019, arXiv 1909.09157.

    Note: steps on features are cheap, and many of them at test tell: trained with 5, Omniglot's 20-way 5-shot tasks had
    90.6 % with test_steps=5 and 97.8 % with 50 (experiments/omniglot_anil.py).
    """
    rule = inner_optimizer_or_sgd(inner_optimizer, inner_lr, order, inner_momentum)
    check_inner(inner_steps, order, test_steps)

    def init(key: Array, x: Array) -> PyTree:
        theta = net.init(key, x)
        check_linear_head(net, theta, x)
        return theta

    def solve(theta: PyTree, support_x: Array, support_y: Array, steps: int) -> Adapted:
        body, head = split_head(theta)
        features, stats = head_features(net, body, head, support_x)

        def support_loss(head: PyTree) -> Array:
            return objective(linear(head, features), support_y, loss)[0]

        head, _ = inner_loop(support_loss, head, rule, steps, order)
        return Adapted({**body, "head": head}, stats)

    return learner_from_solver(net, init, solve, inner_steps, test_steps, loss)
