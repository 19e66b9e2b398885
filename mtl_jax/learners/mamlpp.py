"""MAML++: learned rates per layer and step, the loss of every inner step, and cheap gradients first."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.learners.checks import check_share, checked, warn_of_rounding
from mtl_jax.learners.inner import check_inner, inner_loop, inner_optimizer_or_sgd, unit_rule
from mtl_jax.learners.maml import Adapted, check_outputs
from mtl_jax.learners.objective import Loss, objective, query_objective
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree

TaskLoss = Callable[[PyTree, Episode], tuple[Array, dict[str, Array]]]


def step_weights(progress: float | Array, steps: int, anneal: float | Array = 0.1) -> Array:
    """The weight of the query loss after each inner step, at some moment of the run.

    w_i = max((1 - a) / N, 0.03 / N);  w_N = min((1 + a (N - 1)) / N, 1 - 0.03 (N - 1) / N);  a = progress / anneal;
    and w_N alone, of 1, from progress = anneal on

    Args:
        progress: [] the fraction of the run that is done.
        steps: N, how many inner steps.
        anneal: the fraction of the run in which the earlier steps count.

    Returns:
        [steps] float32, of sum 1.

    Reference: Antoniou, Edwards and Storkey 2018, arXiv 1810.09502.
    """
    late = jnp.zeros(steps, jnp.float32).at[-1].set(1.0)
    anneal = jnp.asarray(anneal, jnp.float32)
    done = jnp.where(anneal > 0, jnp.asarray(progress, jnp.float32) / jnp.where(anneal > 0, anneal, 1.0), 1.0)
    early = jnp.full(steps, jnp.maximum((1 - done) / steps, 0.03 / steps))
    last = jnp.minimum((1 + done * (steps - 1)) / steps, 1 - 0.03 * (steps - 1) / steps)
    return jnp.where(done < 1, early.at[-1].set(last), late)


def _rate_of_step(rates: Mapping[str, Array]) -> optax.GradientTransformation:
    """Multiply each layer's updates by its own rate of this step; past the last one, by the last."""

    def update(updates: PyTree, step: Array, params: PyTree = None) -> tuple[PyTree, Array]:
        now = {name: jnp.asarray(rate)[jnp.minimum(step, len(rate) - 1)] for name, rate in rates.items()}
        return {name: jax.tree.map(lambda u, r=now[name]: u * r, layer) for name, layer in updates.items()}, step + 1

    return optax.GradientTransformation(lambda params: jnp.int32(0), update)


@checks_arguments
def mamlpp(
    net: Model,
    inner_lr: float = 0.4,
    inner_steps: int = 5,
    order: int = 2,
    test_steps: int | None = None,
    remat: bool = False,
    inner_optimizer: optax.GradientTransformation | None = None,
    per_step_rates: bool = True,
    multi_step_loss: bool = True,
    anneal: float | Array = 0.1,
    first_order_until: float | Array = 0.0,
    progress: float | Array = 1.0,
    loss: Loss | None = None,
    inner_momentum: float = 0.0,
) -> Learner:
    """MAML made steadier; each part can be switched off, and without any of them it is MAML.

    phi_{k+1} = phi_k - rates[layer, k] grad L_support(phi_k);  loss = sum_k w_k(progress) L_query(phi_k)

    Args:
        net: a network with a head, such as conv4(ways=5) or mlp(1).
        inner_lr: what every rate starts at; the inner rate itself without `per_step_rates`.
        inner_steps: inner steps of the training loss.
        order: 2 for the exact meta-gradient; 1 takes inner gradients for constants.
        test_steps: inner steps of `adapt`, as many as in training unless given.
        remat: keep no activations of the inner steps; the outer backward pass computes them again.
        inner_optimizer: an optax transformation in place of SGD; learned rates then start at 1 and multiply its
            updates. At order 2 Adam needs eps_root above 0.
        per_step_rates: learn a rate for every layer (top-level key of the parameters) and inner step.
        multi_step_loss: count the query loss after every inner step, by `step_weights`.
        anneal: the fraction of the run after which only the last step's loss counts.
        first_order_until: the fraction of the run that order 1 is taken for; 0 for none.
        progress: [] the fraction of the run that is done, a number or an array, traced or not. A trainer that takes
            step -> learner gives each step its own; as it stands, the learner is that of the end of the run.
        loss: as in `maml`.
        inner_momentum: m of the inner SGD, v <- m v + grad, phi <- phi - rates v; 0 for none.

    Returns:
        Learner; theta is {"net": parameters, "rates": {layer: [max(inner_steps, test_steps)]}}, or the parameters
        alone without `per_step_rates`; phi is Adapted(params, stats).

    Raises:
        ValueError: a setting out of range, an inner optimiser that breaks the meta-gradient, or (in init) parameters
            that are no dict under `per_step_rates`.

    Reference: Antoniou, Edwards and Storkey 2018, arXiv 1810.09502.

    Note: the paper's running moments, scales and shifts of normalisation for each step are the network's affair,
        and are not here; its meta-rate falls by a cosine, which is the outer optimiser's.
    """
    if per_step_rates:
        rule, start = unit_rule(inner_optimizer, inner_lr, order, inner_momentum)
    else:
        rule, start = inner_optimizer_or_sgd(inner_optimizer, inner_lr, order, inner_momentum), inner_lr
    check_inner(inner_steps, order, test_steps)
    warn_of_rounding(net, inner_steps)
    check_share(anneal=anneal, first_order_until=first_order_until)
    limits = (first_order_until if order == 2 else 0.0, anneal if multi_step_loss else 0.0)

    def init(key: Array, x: Array) -> PyTree:
        params = net.init(key, x)
        if not per_step_rates:
            return params
        if not isinstance(params, Mapping):
            raise ValueError(
                f"mamlpp learns rates by the top-level key of a dict of parameters, not of a {type(params).__name__}: "
                "give the network a dict, or take per_step_rates=False"
            )
        steps = max(inner_steps, test_steps or 1)
        return {
            "net": params,
            "rates": {name: jnp.full(steps, start, jax.tree.leaves(layer)[0].dtype) for name, layer in params.items()},
        }

    def solve(
        theta: PyTree, support_x: Array, support_y: Array, steps: int, order: int = 1, each: Callable | None = None
    ) -> tuple[Adapted, Any]:
        def support_loss(params: PyTree) -> Array:
            return objective(net.apply(params, support_x, None)[0], support_y, loss)[0]

        def solution(params: PyTree) -> Adapted:
            return Adapted(params, net.apply(params, support_x, None)[1])

        params = theta["net"] if per_step_rates else theta
        update = optax.chain(rule, _rate_of_step(theta["rates"])) if per_step_rates else rule
        look = None if each is None else lambda params: each(solution(params))
        phi, seen = inner_loop(support_loss, params, update, steps, order, remat, look)
        return solution(phi), seen

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Adapted:
        phi = solve(theta, support_x, support_y, test_steps or inner_steps)[0]
        check_outputs(net, phi, support_x, support_y)
        return phi

    def predict(theta: PyTree, phi: Adapted, x: Array) -> Array:
        return net.apply(phi.params, x, phi.stats)[0]

    def loss_of(order: int, every_step: bool) -> TaskLoss:
        def one(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
            def judge(phi: Adapted) -> tuple[Array, dict[str, Array]]:
                return query_objective(predict(theta, phi, episode.query_x), episode, loss=loss)

            support = (episode.support_x, episode.support_y)
            if not every_step:
                return judge(solve(theta, *support, inner_steps, order)[0])
            _, (losses, metrics) = solve(theta, *support, inner_steps, order, judge)
            weights = step_weights(progress, inner_steps, limits[1]).astype(losses.dtype)
            return losses @ weights, jax.tree.map(lambda m: m[-1], metrics)

        return one

    # what has no stage of its own, by a 0 that is known, is not compiled
    never = [not isinstance(limit, jax.Array) and limit == 0 for limit in limits]
    stages = [
        loss_of(k, each) for k in ((order,) if never[0] else (order, 1)) for each in ((False, True)[: 2 - never[1]])
    ]

    def task_loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        early = [progress < limit for limit in limits]
        if not any(isinstance(is_early, jax.Array) for is_early in early):
            return loss_of(1 if early[0] else order, bool(early[1]))(theta, episode)
        stage = jnp.asarray(early[0], jnp.int32) * (1 if never[1] else 2) + jnp.asarray(early[1], jnp.int32)
        return jax.lax.switch(stage, stages, theta, episode)

    return checked(Learner(init, adapt, predict, task_loss))
