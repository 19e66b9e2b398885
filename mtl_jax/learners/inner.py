"""The inner loop: a few optimiser steps on one task's loss, differentiable from end to end."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax.learners.checks import check_above, check_share
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
        optimizer: the update rule u, any optax transformation; one that takes `value` is given the loss.
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
    grad_fn = mixed_grad(loss) if inner_grad == "mixed" and order == 2 else jax.grad(loss)

    def step(carry: tuple[PyTree, Any], _: None) -> tuple[tuple[PyTree, Any], Any]:
        phi, opt_state = carry
        grads = grad_fn(jax.lax.stop_gradient(phi) if order == 1 else phi)
        if order == 1:  # the loss may hold outer parameters of its own
            grads = jax.lax.stop_gradient(grads)
        phi, opt_state = optimizer_step(optimizer, shown, grads, opt_state, phi, order)
        return (phi, opt_state), None if each is None else each(phi)

    shown = loss if looks_at_loss(optimizer, loss, params) else None
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

    def grad_fn(phi: PyTree) -> PyTree:
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

    return grad_fn


def optimizer_step(
    optimizer: optax.GradientTransformation,
    loss: Callable[[PyTree], Array] | None,
    grads: PyTree,
    state: PyTree,
    phi: PyTree,
    order: int = 2,
) -> tuple[PyTree, PyTree]:
    """(phi, state) after one update; a rule that `looks_at_loss`, as a line search does, is given it, others None.

    To the meta-gradient of order 1 all that such a rule looks at is constant, as the gradients are.
    """
    seen, at = {}, phi
    if loss is not None:
        if order == 1:
            at, state = jax.lax.stop_gradient((phi, state))
            pure, rest = jax.closure_convert(loss, at)
            rest = jax.lax.stop_gradient(rest)
            loss = lambda p: pure(p, *rest)  # noqa: E731
        seen = {"value": loss(at), "grad": grads, "value_fn": loss}
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its integer step count with floats
        updates, state = optimizer.update(grads, state, at, **seen)
    return optax.apply_updates(phi, updates), state


def looks_at_loss(optimizer: optax.GradientTransformation, loss: Callable[[PyTree], Array], phi: PyTree) -> bool:
    """Whether an update reads the loss's value or calls it: optax's types do not tell, so that one is traced."""
    if not isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return False
    called = []

    def watched(phi: PyTree) -> Array:
        called.append(True)
        return loss(phi)

    def update(value: Array, grads: PyTree) -> PyTree:
        state = optimizer.init(phi)
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(grads, state, phi, value=value, grad=grads, value_fn=watched)

    jaxpr = jax.make_jaxpr(update)(jnp.zeros_like(jax.tree.leaves(phi)[0], shape=()), phi).jaxpr
    read = [*(v for e in jaxpr.eqns for v in e.invars), *jaxpr.outvars]
    return bool(called) or any(v is jaxpr.invars[0] for v in read)


def inner_optimizer_or_sgd(
    inner_optimizer: optax.GradientTransformation | None,
    inner_lr: float | Array,
    order: int = 2,
    inner_momentum: float | Array = 0.0,
) -> optax.GradientTransformation:
    """SGD; or the optimiser given, which at order 2 looks at its own derivative when it meets the parameters.

    Raises:
        ValueError: inner_lr is not above 0, or inner_momentum not in [0, 1) or given beside an optimiser; or (while
            tracing) as `check_derivative`.
    """
    none = isinstance(inner_momentum, int | float) and inner_momentum == 0
    check_share(")", inner_momentum=inner_momentum)
    if inner_optimizer is None:
        check_above(inner_lr=inner_lr)
        rule = optax.sgd(inner_lr, momentum=None if none else inner_momentum)
        return optax.GradientTransformation(*rule)  # of the type that takes no loss
    if not none:
        raise ValueError(
            f"inner_momentum {inner_momentum} is of the inner SGD, and inner_optimizer stands in its place: leave "
            "inner_momentum out, and give the optimiser its own"
        )
    rule = inner_optimizer
    if order == 1:
        return rule
    known = set()  # trees that it has been tried on

    def init(params: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten(params)
        kind = tree, *((leaf.shape, leaf.dtype) for leaf in leaves)
        if kind not in known:
            check_derivative(rule, params)
            known.add(kind)
        return rule.init(params)

    return type(rule)(init, rule.update)


def check_derivative(rule: optax.GradientTransformation, params: PyTree) -> None:
    """Raise ValueError unless an update of this tree has a finite derivative where some gradients are exactly 0.

    Dead units have such gradients, and one NaN of theirs would make every meta-gradient NaN: rules that divide by a
    root, as optax.adam without eps_root and adafactor do, have one. A rule is tried on gradients in a tree of the
    network's own shapes, of which a quarter is 0 in matrices and kernels; a bias's NaN ends at the dead unit itself.
    """
    rng = np.random.default_rng(0)

    def some(leaf: Any) -> Array:
        g = np.where(rng.random(leaf.shape) < 0.25 * (leaf.ndim > 1), 0.0, rng.normal(size=leaf.shape))
        if leaf.ndim > 1 and g.size > 1:
            g.flat[0] = 0.0
        return jnp.asarray(g, leaf.dtype)

    def moved(grads: PyTree, params: PyTree) -> Array:
        def square(p: PyTree) -> Array:
            return optax.tree.norm(p, squared=True)

        shown = square if looks_at_loss(rule, square, params) else None
        phi, _ = optimizer_step(rule, shown, grads, rule.init(params), params)
        return jnp.stack([jnp.sum(leaf) for leaf in jax.tree.leaves(phi)]).sum()

    with jax.ensure_compile_time_eval(), jax.numpy_dtype_promotion("standard"):
        try:
            slopes = jax.grad(moved)(
                jax.tree.map(some, params), jax.tree.map(lambda p: jnp.ones(p.shape, p.dtype), params)
            )
        except ValueError as error:
            if "Reverse-mode differentiation" not in str(error):
                raise
            raise ValueError(
                "inner_optimizer searches in a loop that has no reverse derivative: take order=1"
            ) from None
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes)]).all()
    if not isinstance(finite, jax.core.Tracer) and not finite:  # with a traced setting of its own it has no value yet
        raise ValueError(
            "inner_optimizer has no derivative where a gradient is 0, so that the meta-gradient would be NaN: "
            "give it something under its root (adam's eps_root, say 1e-8), or take order=1"
        )


def check_inner(inner_steps: int, order: int = 2, test_steps: int | None = None) -> None:
    """Raise ValueError unless the steps are at least 1 and the order is 1 or 2."""
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, not {order}")
    for steps in (inner_steps, test_steps):
        if isinstance(steps, jax.core.Tracer):
            raise ValueError("inner steps fix the shape of the program: give a plain number, not a traced one")
        if steps is not None and steps < 1:
            raise ValueError(f"inner steps must be at least 1, not {steps}")


def unit_rule(
    inner_optimizer: optax.GradientTransformation | None,
    inner_lr: float | Array,
    order: int = 2,
    inner_momentum: float | Array = 0.0,
) -> tuple[optax.GradientTransformation, float | Array]:
    """An update for learned rates to multiply, and their start: SGD of rate 1 and inner_lr, or the one given and 1.

    Raises:
        ValueError: as `inner_optimizer_or_sgd`.
    """
    if inner_optimizer is not None:
        return inner_optimizer_or_sgd(inner_optimizer, inner_lr, order, inner_momentum), 1.0
    check_above(inner_lr=inner_lr)
    return inner_optimizer_or_sgd(None, 1.0, order, inner_momentum), inner_lr


def linear(head: PyTree, features: Array) -> Array:
    """A head {kernel [d, ways], bias [ways]} on features [n, d]: [n, ways]."""
    return features @ head["kernel"] + head["bias"]
