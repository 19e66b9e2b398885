"""Proto-MAML: MAML whose head starts as the prototypes of the task at hand."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.learners.checks import check_counts, checked, feature_network, warn_of_rounding
from mtl_jax.learners.inner import check_inner, inner_loop, inner_optimizer_or_sgd, linear
from mtl_jax.learners.objective import count_ways, never_absent, objective, query_objective, task_ways
from mtl_jax.learners.protonet import class_means
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


class ProtoAdapted(NamedTuple):
    """One task's solution: body, head {kernel [d, ways], bias [ways]} of features from which `origin` [d] is taken off,
    which classes exist [ways], and moments."""

    params: PyTree
    head: PyTree
    origin: Array
    present: Array
    stats: Any


@checks_arguments
def proto_maml(
    net: Model,
    inner_lr: float = 0.02,
    inner_steps: int = 3,
    order: int = 2,
    test_steps: int | None = None,
    remat: bool = False,
    inner_optimizer: optax.GradientTransformation | None = None,
    ways: int | None = None,
    inner_momentum: float = 0.0,
) -> Learner:
    """MAML from a linear head that is the prototypes' own: any number of ways, and ProtoNet before the first step.

    w_k = 2 c_k, b_k = -||c_k||^2 with c_k the mean of f_theta(x) over the support of class k, so that w_k f(x) + b_k
    is -||f(x) - c_k||^2 but for what all classes share; then inner_steps of SGD on the body and the head. The
    meta-gradient flows through the head's start as well.

    Args:
        net: a network without head, such as conv4(ways=None).
        inner_lr: rate of the inner SGD, on the mean loss of the support set; well below MAML's, since features of
            squared norm 10 to 100 make the head's gradients large.
        inner_steps: inner steps of the training loss.
        order: 2 for the exact meta-gradient; 1 takes inner gradients for constants (not the head's start).
        test_steps: inner steps of `adapt`, as many as in training unless given.
        remat: keep no activations of the inner steps; the outer backward pass computes them again.
        inner_optimizer: any optax transformation in place of SGD; at order 2 Adam needs eps_root above 0.
        ways: classes of a task; counted from the support labels unless given.
        inner_momentum: m of the inner SGD, v <- m v + grad, phi <- phi - inner_lr v; 0 for none.

    Returns:
        Learner; theta are the network's parameters, phi is ProtoAdapted(params, head, origin, present,
        stats). While tracing with `ways` unknown, predict gives a logit for each support example; those past the true
        ways never win.

    Raises:
        ValueError: a setting out of range, or an inner optimiser that breaks the meta-gradient.

    Reference: Triantafillou et al. 2019, arXiv 1903.03096.
    """
    rule = inner_optimizer_or_sgd(inner_optimizer, inner_lr, order, inner_momentum)
    check_inner(inner_steps, order, test_steps)
    warn_of_rounding(net, inner_steps)
    check_counts(ways=ways)
    net = feature_network(net, "proto_maml")

    def solve(theta: PyTree, support_x: Array, support_y: Array, steps: int, slots: int) -> ProtoAdapted:
        centres, present = class_means(net.apply(theta, support_x, None)[0], support_y, slots)
        # As in protonet, 2 c x - ||c||^2 would cancel far from the origin. The steps move the head of bare features, by
        # `moves` from its start; of the start, what all classes share is left out.
        origin = jax.lax.stop_gradient(centres.mean(0))
        centres = centres - origin
        first = {"kernel": 2.0 * centres.T, "bias": -jnp.square(centres).sum(-1)}
        start = {"body": theta, "moves": jax.tree.map(jnp.zeros_like, first)}

        def support_loss(phi: PyTree) -> Array:
            features = net.apply(phi["body"], support_x, None)[0]
            logits = linear(first, features - origin) + linear(phi["moves"], features)
            return objective(never_absent(logits, present), support_y)[0]

        phi, _ = inner_loop(support_loss, start, rule, steps, order, remat)
        moves = phi["moves"]
        bias = first["bias"] + moves["bias"] + origin @ moves["kernel"]
        head = {"kernel": first["kernel"] + moves["kernel"], "bias": bias}
        return ProtoAdapted(phi["body"], head, origin, present, net.apply(phi["body"], support_x, None)[1])

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> ProtoAdapted:
        return solve(theta, support_x, support_y, test_steps or inner_steps, count_ways(support_y, ways))

    def predict(theta: PyTree, phi: ProtoAdapted, x: Array) -> Array:
        features, _ = net.apply(phi.params, x, phi.stats)
        return never_absent(linear(phi.head, features - phi.origin), phi.present)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        phi = solve(theta, episode.support_x, episode.support_y, inner_steps, task_ways(episode, ways))
        return query_objective(predict(theta, phi, episode.query_x), episode, spare=True)

    return checked(Learner(net.init, adapt, predict, loss), labels_only=True)
