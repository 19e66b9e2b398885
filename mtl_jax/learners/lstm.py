"""The LSTM meta-learner: a learned update rule, whose cell state is the network's weights."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from mtl_jax.learners.checks import check_above, check_counts, check_share
from mtl_jax.learners.inner import check_inner
from mtl_jax.learners.maml import Adapted, learner_from_solver
from mtl_jax.learners.objective import Loss, objective
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.models.recurrent import lstm_cell
from mtl_jax.types import Array, Learner, Model, PyTree

KEPT = 0.999  # of the weights in each step, where the gates start as gradient descent
SCALE = 0.01  # all weights but the gates' biases start in (-SCALE, SCALE)


@checks_arguments
def lstm(
    net: Model,
    inner_steps: int = 5,
    test_steps: int | None = None,
    remat: bool = True,
    hidden: int = 20,
    p: float = 10.0,
    inner_lr: float | None = None,
    loss: Loss | None = None,
) -> Learner:
    """The LSTM meta-learner: gates, learned and the same for all weights, in place of a rate.

    c_t = f_t * c_{t-1} - i_t * g_t,  elementwise, with c the network's weights and g_t = grad L_support(c_{t-1});
    f_t = sigmoid(W_f [h_t, c_{t-1}, f_{t-1}] + b_f),  i_t = sigmoid(W_i [h_t, c_{t-1}, i_{t-1}] + b_i);
    h_t = LSTM([prep(g_t), prep(L_t)]),  a state of `hidden` units for each weight

    c_0, W, b and the LSTM are meta-learned; g_t and L_t are constants to the meta-gradient.

    Args:
        net: a network with a head, such as conv4(ways=5) or mlp(1).
        inner_steps: steps of the training loss, each on the whole support set.
        test_steps: steps of `adapt`, as many as in training unless given.
        remat: keep no activations of the LSTM; the outer backward pass computes them again, the gradients g_t not.
        hidden: units of the LSTM.
        p: of `prep`: gradients and losses below e^-p count as small.
        inner_lr: rate in (0, 1) that i_t starts at, with f_t at 0.999: the rule starts as gradient descent, as suits
            a network that another method has trained for that. Unless given, the gates start as in the paper.
        loss: as in `maml`.

    Returns:
        Learner; theta is {"net": c_0, "lstm", "gates": {kernel [2, hidden + 2], bias [2]}}, whose rows are f
        and i; phi is Adapted(params, stats).

    Raises:
        ValueError: a setting out of range.

    Reference: Ravi and Larochelle 2017, Optimization as a Model for Few-Shot Learning, ICLR, OpenReview rJY0-Kcll.

    Note: the authors take 12 steps at 1 shot and 8 at 5, over 50,000 tasks and more; 5 steps learn as much in the same
    time here (two minutes on Omniglot, 5-way 1-shot: 76.3 ± 0.9 % against 75.4 ± 0.9 by 12). f_{t-1} and i_{t-1} are
    the gates themselves, as the paper writes; the authors' code feeds back their values before the sigmoid. f_0 and i_0
    are 0. Each step sees the whole support set, as the authors' settings come to. At the start the rate i_t is about
    0.01 unless inner_lr is given, and the biases, U(4, 5) of f and U(-5, -4) of i, need many meta-steps to move.
    """
    check_inner(inner_steps, test_steps=test_steps)
    check_counts(hidden=hidden)
    check_above(p=p)
    if inner_lr is not None:
        check_above(inner_lr=inner_lr)
        check_share(end=")", inner_lr=inner_lr)
    cell = lstm_cell(hidden, SCALE)

    def init(key: Array, x: Array) -> PyTree:
        net_key, lstm_key, kernel_key, bias_key = jax.random.split(key, 4)
        params = net.init(net_key, x)
        dtype = ravel_pytree(params)[0].dtype
        kernel = jax.random.uniform(kernel_key, (2, hidden + 2), dtype, -SCALE, SCALE)
        if inner_lr is None:
            bias = jax.random.uniform(bias_key, (2,), dtype) + jnp.array([4.0, -5.0], dtype)
        else:
            bias = jax.scipy.special.logit(jnp.array([KEPT, inner_lr], dtype))
        return {"net": params, "lstm": cell.init(lstm_key, 4, dtype), "gates": {"kernel": kernel, "bias": bias}}

    def solve(theta: PyTree, support_x: Array, support_y: Array, steps: int) -> Adapted:
        weights, back = ravel_pytree(theta["net"])

        def support_loss(weights: Array) -> Array:
            return objective(net.apply(back(weights), support_x, None)[0], support_y, loss)[0]

        def update(theta: PyTree, carry: Any, loss: Array, gradient: Array) -> Any:
            weights, gates, state = carry
            seen = jnp.concatenate((prep(gradient, p), jnp.broadcast_to(prep(loss, p)[:, None], (2, len(gradient)))))
            state, h = cell.step(theta["lstm"], state, seen)
            kernel, bias = theta["gates"]["kernel"], theta["gates"]["bias"][:, None]
            gates = jax.nn.sigmoid(kernel[:, :-2] @ h + kernel[:, -2:-1] * weights + kernel[:, -1:] * gates + bias)
            return gates[0] * weights - gates[1] * gradient, gates, state

        rule = jax.checkpoint(update, prevent_cse=False) if remat else update

        def step(carry: Any, _: None) -> tuple[Any, None]:
            seen = jax.value_and_grad(support_loss)(jax.lax.stop_gradient(carry[0]))
            return rule(theta, carry, *jax.lax.stop_gradient(seen)), None

        carry = (weights, jnp.zeros((2, len(weights)), weights.dtype), cell.start(len(weights), weights.dtype))
        phi = back(jax.lax.scan(step, carry, length=steps)[0][0])
        return Adapted(phi, net.apply(phi, support_x, None)[1])

    return learner_from_solver(net, init, solve, inner_steps, test_steps, loss)


def prep(x: Array, p: float | Array) -> Array:
    """Numbers of any size as two moderate ones: (log|x| / p, sign x) from e^-p up, else (-1, e^p x).

    Args:
        x: [...] floats.
        p: above 0.

    Returns:
        [2, ...].

    Reference: Andrychowicz et al. 2016, arXiv 1606.04474, appendix A.
    """
    p = jnp.asarray(p, x.dtype)
    least = jnp.exp(-p)
    large = jnp.abs(x) >= least
    log = jnp.log(jnp.maximum(jnp.abs(x), least)) / p
    return jnp.stack((jnp.where(large, log, -1.0), jnp.where(large, jnp.sign(x), x / least)))
