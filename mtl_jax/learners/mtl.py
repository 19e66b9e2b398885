"""MTL: meta-transfer learning, which learns how to scale and shift a network that was pre-trained elsewhere."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

from mtl_jax.learners.checks import check_linear_head, head_features, split_head
from mtl_jax.learners.inner import check_inner, inner_loop, inner_optimizer_or_sgd, linear
from mtl_jax.learners.maml import Adapted, learner_from_solver
from mtl_jax.learners.objective import Loss, objective
from mtl_jax.learners.parts import adapter_of, beside, change_parts, is_gain, is_shift, parts_of
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Learner, Model, PyTree

Transfer = Literal["scale_shift", "scale", "shift", "film", "adapters", "full", "none"]


@checks_arguments
def mtl(
    net: Model,
    inner_lr: float = 0.1,
    inner_steps: int = 20,
    order: int = 2,
    test_steps: int | None = 100,
    inner_optimizer: optax.GradientTransformation | None = None,
    transfer: Transfer = "scale_shift",
    loss: Loss | None = None,
    inner_momentum: float = 0.0,
) -> Learner:
    """Meta-transfer learning: a frozen network, meta-learned scales and shifts of it, and a head that adapts.

    W' = W * scale, b' = b + shift, of every convolution;
    head_i = head - inner_lr grad_head L_support_i(W', b', head), inner_steps times

    scale [in, out] starts at 1 and shift [out] at 0, where the network is exactly the pre-trained one. The inner loop
    sees features that are computed once, so that a hundred steps stay cheap.

    Args:
        net: a network with a linear head, such as resnet12(ways=5).
        inner_lr: rate of the inner SGD, on the mean loss of the support set.
        inner_steps: inner steps of the training loss.
        order: 2 for the exact meta-gradient, as in the paper; 1, as in the authors' PyTorch code, takes inner
            gradients for constants.
        test_steps: inner steps of `adapt`, as many as in training unless given.
        inner_optimizer: any optax transformation in place of SGD; at order 2 Adam needs eps_root above 0.
        transfer: "scale_shift"; "scale" or "shift" alone; "film", a factor and a shift for each channel after its
            normalisation; "adapters", a 1x1 convolution beside each convolution, of zeros at the start, whose outputs
            are added before the normalisation; "full", all weights of the body move and none is frozen; "none", only
            the head is learned.
        loss: as in `maml`.
        inner_momentum: m of the inner SGD, v <- m v + grad, phi <- phi - inner_lr v; 0 for none.

    Returns:
        Learner; theta is {"frozen": the body, "scale", "shift", "adapters", "head"} with those parts that `transfer`
        has, or {"body", "head"} under "full"; phi is Adapted(params, stats), the network as it is used.

    Raises:
        ValueError: a setting out of range, an inner optimiser that breaks the meta-gradient, or (in init or while
            tracing) a network without a linear head, or without features, or with nothing that `transfer` could
            change.

    Reference: Sun, Liu, Chua and Schiele 2019, arXiv 1812.02391; the form of the adapters: Li, Liu and Bilen 2022,
    arXiv 2107.00358, who fit them to each task instead.

    Note: these networks have no biases but the shifts of their normalisations, and there b' = b + shift is: added
    before a normalisation, a shift would cancel. As in the authors' code, 1x1 convolutions on a residual's skip have
    no scale; theirs have no shift either, where here the skip's adds to that of the third convolution. The same is so
    of a backbone's other 1x1 convolutions, where a factor for each pair of channels would be as many as the weights; a
    depthwise convolution has one for each channel. The outer rates of scale and shift are a tenth of the head's in the
    authors' PyTorch code.
    """
    rule = inner_optimizer_or_sgd(inner_optimizer, inner_lr, order, inner_momentum)
    check_inner(inner_steps, order, test_steps)

    def init(key: Array, x: Array) -> PyTree:
        params = net.init(key, x)
        check_linear_head(net, params, x)
        body, head = split_head(params)
        if transfer == "full":
            return {"body": body, "head": head}
        theta = {"frozen": body, "head": head}
        if transfer in ("scale_shift", "scale", "film"):
            theta["scale"] = parts_of(body, _gains if transfer == "film" else _kernels)
        if transfer in ("scale_shift", "shift", "film"):
            theta["shift"] = parts_of(body, _shifts)
        if transfer == "adapters":
            theta["adapters"] = parts_of(body, adapter_of)
        if lacking := [part for part in ("scale", "shift", "adapters") if theta.get(part, {}) is None]:
            wanted = " or ".join(lacking).replace("adapters", "stand beside")
            raise ValueError(
                f"transfer {transfer!r} finds nothing to {wanted} in this network: "
                "use a convolutional one, such as resnet12(ways=5), or transfer='full'"
            )
        return theta

    def body_of(theta: PyTree) -> PyTree:
        if transfer == "full":
            return theta["body"]
        body = jax.lax.stop_gradient(theta["frozen"])
        scaled = change_parts(body, theta.get("scale", {}), lambda w, s: w * s)
        shifted = change_parts(scaled, theta.get("shift", {}), lambda b, s: b + s)
        return change_parts(shifted, theta.get("adapters", {}), beside)

    def solve(theta: PyTree, support_x: Array, support_y: Array, steps: int) -> Adapted:
        body = body_of(theta)
        features, stats = head_features(net, body, theta["head"], support_x)

        def support_loss(head: PyTree) -> Array:
            return objective(linear(head, features), support_y, loss)[0]

        head, _ = inner_loop(support_loss, theta["head"], rule, steps, order)
        return Adapted({**body, "head": head}, stats)

    return learner_from_solver(net, init, solve, inner_steps, test_steps, loss)


def _kernels(name: str, leaf: Array) -> Array | None:
    """A factor for each (in, out) pair of channels of a convolution that looks beyond its own pixel."""
    return jnp.ones(leaf.shape[2:], leaf.dtype) if leaf.ndim == 4 and max(leaf.shape[:2]) > 1 else None


def _gains(name: str, leaf: Array) -> Array | None:
    return jnp.ones_like(leaf) if is_gain(name) else None


def _shifts(name: str, leaf: Array) -> Array | None:
    return jnp.zeros_like(leaf) if is_shift(name) else None
