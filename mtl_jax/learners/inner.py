"""The inner loop: a few optimiser steps on one task's loss, differentiable from end to end."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax

from mtl_jax.types import Array, PyTree

InnerGrad = Literal["auto", "reverse", "mixed"]
MIXED_FROM = 10  # inner steps from which memory counts: both forms take the same time, within the noise


def inner_loop(
    loss: Callable[[PyTree], Array],
    params: PyTree,
    optimizer: optax.GradientTransformation,
    steps: int,
    order: int = 2,
    remat: bool = False,
    each: Callable[[PyTree], Any] | None = None,
    inner_grad: InnerGrad = "auto",
) -> tuple[PyTree, Any]:
    """Take `steps` optimiser steps on `loss`, in one scan.

    phi_0 = params;  phi_{k+1} = phi_k + u(grad loss(phi_k))

    Args:
        loss: phi -> scalar, the support loss.
        params: where the loop starts; any tree of float arrays.
        optimizer: the update rule u, any optax transformation.
        steps: how many, at least 0.
        order: 2 differentiates through the gradients; 1 takes them for constants (first-order MAML).
        remat: recompute each step's forward pass in the outer backward pass instead of keeping it.
        each: phi -> anything, looked at after every step.
        inner_grad: how the outer gradient passes through an inner one: "reverse" differentiates its backward pass;
            "mixed" pushes the outer cotangent forward through it, so that of each step nothing is kept but phi_k;
            "auto" is "mixed" from 10 steps on.

    Returns:
        (phi after the last step, what `each` gave with a leading [steps] axis, or None).

    Raises:
        ValueError: steps below 0, an order other than 1 and 2, or an unknown inner_grad.

    Reference: Finn et al. 2017, arXiv 1703.03400; Kemaev et al. 2025, arXiv 2505.00793, for "mixed".
    """
    if steps < 0 or order not in (1, 2):
        raise ValueError(f"inner steps must be at least 0 and order 1 or 2, not {steps} and {order}")
    if inner_grad not in get_args(InnerGrad):
        raise ValueError(f"unknown inner_grad {inner_grad!r}: choose one of {', '.join(get_args(InnerGrad))}")
    if inner_grad == "auto":
        inner_grad = "mixed" if steps >= MIXED_FROM and not remat else "reverse"
    slope = mixed_grad(loss) if inner_grad == "mixed" and order == 2 else jax.grad(loss)

    def step(carry: tuple[PyTree, Any], _: None) -> tuple[tuple[PyTree, Any], Any]:
        phi, opt_state = carry
        grads = slope(jax.lax.stop_gradient(phi) if order == 1 else phi)
        if order == 1:  # the loss may hold outer parameters of its own
            grads = jax.lax.stop_gradient(grads)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes its integer step count with floats
            updates, opt_state = optimizer.update(grads, opt_state, phi)
        phi = optax.apply_updates(phi, updates)
        return (phi, opt_state), None if each is None else each(phi)

    body = jax.checkpoint(step, prevent_cse=False) if remat else step
    (phi, _), seen = jax.lax.scan(body, (params, optimizer.init(params)), None, length=steps)
    return phi, seen


def mixed_grad(loss: Callable[[PyTree], Array]) -> Callable[[PyTree], PyTree]:
    """`jax.grad(loss)`, whose own reverse derivative is taken forward over reverse.

    v^T d(grad loss)/d(phi, a) = d/de grad_{phi, a} loss(phi + e v, a) at e = 0,  a being what the loss closes over

    The Hessian is symmetric, so that its product with a cotangent is a directional derivative of the gradient.

    Args:
        loss: phi -> scalar; it may close over arrays that are differentiated further out.

    Returns:
        phi -> gradient, a tree like phi.

    Reference: Kemaev et al. 2025, arXiv 2505.00793.
    """

    def slope(phi: PyTree) -> PyTree:
        # All that the loss closes over becomes an argument: the backward pass is traced in another scan than this one.
        closed = jax.make_jaxpr(loss)(phi)
        moves = [jnp.issubdtype(a.dtype, jnp.inexact) for a in closed.consts]

        def pure(phi: PyTree, floats: list[Array], others: list[Array]) -> Array:
            rest = iter(floats), iter(others)
            consts = [next(rest[0] if m else rest[1]) for m in moves]
            return jax.core.eval_jaxpr(closed.jaxpr, consts, *jax.tree.leaves(phi))[0]

        @jax.custom_vjp
        def gradient(phi: PyTree, floats: list[Array], others: list[Array]) -> PyTree:
            return jax.grad(pure)(phi, floats, others)

        def forward(*args: Any) -> tuple[PyTree, Any]:
            return gradient(*args), args

        def backward(args: Any, cotangent: PyTree) -> tuple[PyTree, list[Array], None]:
            phi, floats, others = args
            tangent = jax.jvp(lambda phi: jax.grad(pure, (0, 1))(phi, floats, others), (phi,), (cotangent,))[1]
            return *tangent, None

        gradient.defvjp(forward, backward)
        floats, others = ([a for a, m in zip(closed.consts, moves, strict=True) if m is kind] for kind in (True, False))
        return gradient(phi, floats, others)

    return slope


def inner_optimizer_or_sgd(
    inner_optimizer: optax.GradientTransformation | None, inner_lr: float
) -> optax.GradientTransformation:
    """The optimiser given, once it is known to have a derivative at a zero gradient; else plain SGD.

    Raises:
        ValueError: the optimiser's update has no finite derivative where a gradient is exactly 0, so that every
            meta-gradient would turn NaN (optax.adam without eps_root does so); or inner_lr is not above 0.
    """
    if inner_optimizer is None:
        if not isinstance(inner_lr, jax.core.Tracer) and inner_lr <= 0:  # one of many rates at once has no value yet
            raise ValueError(f"inner_lr must be above 0, not {inner_lr}")
        return optax.sgd(inner_lr)
    rule = inner_optimizer

    def moved(gradient: Array) -> Array:
        params = jnp.ones(1)
        return rule.update(gradient, rule.init(params), params)[0].sum()

    with jax.ensure_compile_time_eval(), jax.numpy_dtype_promotion("standard"):
        if not bool(jnp.isfinite(jax.grad(moved)(jnp.zeros(1))).all()):
            raise ValueError("inner_optimizer has no derivative at a zero gradient: give it eps_root, say 1e-8")
    return rule


def check_inner(inner_steps: int, order: int = 2, test_steps: int | None = None) -> None:
    """Raise ValueError unless the steps are at least 1 and the order is 1 or 2."""
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, not {order}")
    for steps in (inner_steps, test_steps):
        if steps is not None and steps < 1:
            raise ValueError(f"inner steps must be at least 1, not {steps}")


def unit_rule(
    inner_optimizer: optax.GradientTransformation | None, inner_lr: float
) -> tuple[optax.GradientTransformation, float]:
    """An update for learned rates to multiply, and their start: SGD of rate 1 and inner_lr, or the one given and 1.

    Raises:
        ValueError: as `inner_optimizer_or_sgd`.
    """
    rule = inner_optimizer_or_sgd(inner_optimizer, inner_lr)
    return (optax.sgd(1.0), inner_lr) if inner_optimizer is None else (rule, 1.0)


def split_head(params: PyTree) -> tuple[dict[str, Any], PyTree]:
    """A network's parameters as (all but the head, the head).

    Raises:
        ValueError: there is no head.
    """
    if "head" not in params:
        raise ValueError(f"the network has no head among its {', '.join(params)}: build it with ways, as conv4(ways=5)")
    return {name: layer for name, layer in params.items() if name != "head"}, params["head"]


def linear(head: PyTree, features: Array) -> Array:
    """A head {kernel [d, ways], bias [ways]} on features [n, d]: [n, ways]."""
    return features @ head["kernel"] + head["bias"]
