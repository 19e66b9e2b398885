"""CAVIA: only a few context parameters adapt to a task; the network they speak to is shared by all."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.learners.inner import check_inner, inner_loop, inner_optimizer_or_sgd
from mtl_jax.learners.maml import Adapted, learner_from_solver
from mtl_jax.learners.objective import Loss, objective
from mtl_jax.learners.parts import change_parts, is_gain, is_shift, parts_of
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Learner, Model, PyTree


@checks_arguments
def cavia(
    net: Model,
    inner_lr: float = 1.0,
    inner_steps: int = 2,
    order: int = 2,
    test_steps: int | None = None,
    context: int = 100,
    layer: str | None = None,
    inner_optimizer: optax.GradientTransformation | None = None,
    loss: Loss | None = None,
    inner_momentum: float = 0.0,
) -> Learner:
    """Fast context adaptation: MAML whose inner loop moves a vector of context parameters, and no weight.

    c_0 = 0;  c_{k+1} = c_k - inner_lr grad_c L_support(theta, c_k);
    scale' = scale * (1 + c W_scale), bias' = bias + c W_bias, of every layer before the head

    On a layer without normalisation this is the context concatenated to the layer's inputs; after a normalisation it is
    FiLM, a factor and a shift for each channel. W and the network are meta-learned through the inner steps.

    Args:
        net: a network with a head, such as conv4(ways=5) or mlp(1).
        inner_lr: rate of the inner SGD, on the mean loss of the support set.
        inner_steps: inner steps of the training loss.
        order: 2 for the exact meta-gradient; 1 takes inner gradients for constants.
        test_steps: inner steps of `adapt`, as many as in training unless given.
        context: how many context parameters a task has.
        layer: the one top-level layer of the parameters that the context speaks to; every one unless given.
        inner_optimizer: any optax transformation in place of SGD; at order 2 Adam needs eps_root above 0.
        loss: as in `maml`.
        inner_momentum: m of the inner SGD, v <- m v + grad, c <- c - inner_lr v; 0 for none.

    Returns:
        Learner; theta is {"net", "context": {"scale", "shift": trees of [context, channels]}}, those that the network
        has; phi is Adapted(params, stats), the network as the task's context makes it.

    Raises:
        ValueError: a rate, count or order out of range, an inner optimiser that breaks the meta-gradient, or (in init)
            a network in which there is nothing for the context to speak to, or no such layer.

    Reference: Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson 2019, arXiv 1810.03642.

    Note: the authors' convolutional networks have one FiLM layer, after the third convolution (`layer`), and the
    sinusoid network takes its context at the input alone (layer="dense0").
    """
    rule = inner_optimizer_or_sgd(inner_optimizer, inner_lr, inner_momentum=inner_momentum)
    check_inner(inner_steps, order, test_steps)
    if context < 1:
        raise ValueError(f"context must be at least 1, not {context}")

    def init(key: Array, x: Array) -> PyTree:
        net_key, context_key = jax.random.split(key)
        params = net.init(net_key, x)
        chosen = {k: v for k, v in params.items() if k != "head" and layer in (None, k)}
        maps = {
            "scale": parts_of(chosen, lambda name, leaf: leaf if is_gain(name) else None),
            "shift": parts_of(chosen, lambda name, leaf: leaf if is_shift(name) else None),
        }
        if not any(part is not None for part in maps.values()):
            names = ", ".join(k for k in params if k != "head")
            raise ValueError(f"context finds no scale and no bias in {layer or 'this network'}: its layers are {names}")
        leaves, tree = jax.tree.flatten({k: v for k, v in maps.items() if v is not None})
        bound = context**-0.5  # as of a linear layer with `context` inputs
        drawn = [
            jax.random.uniform(k, (context, *leaf.shape), leaf.dtype, -bound, bound)
            for k, leaf in zip(jax.random.split(context_key, len(leaves)), leaves, strict=True)
        ]
        return {"net": params, "context": jax.tree.unflatten(tree, drawn)}

    def spoken_to(theta: PyTree, c: Array) -> PyTree:
        """The network's parameters under context c [context]."""
        maps = theta["context"]
        scaled = change_parts(theta["net"], maps.get("scale", {}), lambda a, w: a * (1.0 + jnp.tensordot(c, w, 1)))
        return change_parts(scaled, maps.get("shift", {}), lambda a, w: a + jnp.tensordot(c, w, 1))

    def solve(theta: PyTree, support_x: Array, support_y: Array, steps: int) -> Adapted:
        def support_loss(c: Array) -> Array:
            return objective(net.apply(spoken_to(theta, c), support_x, None)[0], support_y, loss)[0]

        start = jnp.zeros(context, jax.tree.leaves(theta["context"])[0].dtype)
        c, _ = inner_loop(support_loss, start, rule, steps, order)
        params = spoken_to(theta, c)
        return Adapted(params, net.apply(params, support_x, None)[1])

    return learner_from_solver(net, init, solve, inner_steps, test_steps, loss)
