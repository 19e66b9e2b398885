"""P>M>F's last stage: fine-tune a copy of the network on augmented copies of each task's support set."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.data.augment import change_colours, translate
from mtl_jax.learners.checks import check_above, check_counts, check_least, checked, feature_network
from mtl_jax.learners.inner import check_inner, optimizer_step
from mtl_jax.learners.objective import as_dtype, count_ways, never_absent
from mtl_jax.learners.protonet import class_means, cosine, protonet
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Learner, Model, PyTree

COPIES = 4  # of each held-out image that a rate is judged by


class Tuned(NamedTuple):
    """One task's solution: the tuned network, class means [ways, d], which classes exist [ways], moments, the rate, and
    the held-out loss [rate_choices + 1] of every rate that it was chosen from, 0 first ([0] where none was)."""

    params: PyTree
    centres: Array
    present: Array
    stats: Any
    rate: Array
    losses: Array


@checks_arguments
def pmf(
    net: Model,
    inner_lr: float = 1e-3,
    test_steps: int = 50,
    rate_choices: int = 2,
    inner_rule: Literal["adam", "sgd"] = "adam",
    pseudo_queries: Literal["colour_translation", "translation", "none"] = "translation",
    temperature: float = 10.0,
    ways: int | None = None,
) -> Learner:
    """Pre-train, meta-train as a ProtoNet of cosines, and fine-tune the whole network on each task's support set.

    theta' <- theta' - u(grad L), L = -log softmax_k(temperature cos(f_theta'(a(x)), c_k))[y] over the support set, a a
    random augmentation drawn anew at each step, c_k the mean of f_theta'(x) over the support of class k

    The rate is chosen for each task among 0, inner_lr, inner_lr / 10, ...: of every class with two or more support
    images the last is held out, the network is tuned on the others at each rate, and the rate whose network has the
    least loss on augmented copies of the held-out images then tunes it on all. Of a class with one image, copies that
    the tuning has not seen stand for it. `loss` is ProtoNet's, the meta-training.

    Args:
        net: a network without head, such as conv4(ways=None).
        inner_lr: the largest rate, at least 0; 0 is a ProtoNet.
        test_steps: steps of `adapt`.
        rate_choices: how many rates are tried beside 0, each a tenth of the last; 0 takes inner_lr without choice, for
            one tuning in place of rate_choices + 2.
        inner_rule: "adam" or "sgd".
        pseudo_queries: what is done to the copies of support images: "translation", moved by up to an eighth of their
            sides, zeros coming in (also of maps); "colour_translation", brightness, saturation and contrast changed
            too, of images in [0, 1]; "none", as inputs that are no images need it: then one image per class is its own
            class mean, from which nothing is learned.
        temperature: what cosines are multiplied by, above 0.
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta are the network's parameters, phi is Tuned(params, centres, present, stats, rate, losses). No
        gradient passes through adapt to theta.

    Raises:
        ValueError: a setting out of range, or (in adapt) inputs that are no images or maps, with pseudo queries.

    Reference: Hu, Li, Stuhmer, Kim and Hospedales 2022, arXiv 2204.07305.

    Note: the authors choose one rate per target domain by a few labelled validation episodes of it; here the support
    set alone decides, for each task. Their copies are augmented with probability 0.9, here always. The draws come from
    one fixed key, the same for every task, so that `adapt` stays a function of its arguments.
    """
    check_least(inner_lr=inner_lr)
    check_inner(test_steps)
    check_counts(0, rate_choices=rate_choices)
    check_above(temperature=temperature)
    net = feature_network(net, "pmf")
    source = protonet(net, "cosine", temperature, ways)
    rule = {"adam": optax.adam, "sgd": optax.sgd}[inner_rule]

    def copy(key: Array, x: Array) -> Array:
        if pseudo_queries == "none":
            return x
        if x.ndim != 4:
            raise ValueError(
                f"copies are moved images or maps [n, height, width, channels], not {list(x.shape)}: "
                "take pseudo_queries='none'"
            )
        colour_key, place_key = jax.random.split(key)
        return translate(place_key, change_colours(colour_key, x) if pseudo_queries == "colour_translation" else x)

    def logits(params: PyTree, stats: Any, centres: Array, present: Array, x: Array) -> Array:
        features, _ = net.apply(params, x, stats)
        return never_absent(-as_dtype(temperature, features.dtype) * cosine(features, centres), present)

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Tuned:
        theta, slots = jax.lax.stop_gradient(theta), count_ways(support_y, ways)
        tune_key, judge_key = jax.random.split(jax.random.key(0))

        def means(params: PyTree, used: Array) -> tuple[Array, Array, Any]:
            """Class means of the examples used [n] bool, which classes have some, and moments."""
            features, stats = net.apply(params, support_x, None)
            none = jnp.asarray(slots, support_y.dtype)  # a label that counts nowhere
            return *class_means(features, jnp.where(used, support_y, none), slots), stats

        def copies_loss(params: PyTree, key: Array, used: Array, judged: Array) -> Array:
            """Mean loss of copies of the examples judged [n] bool, by the means of those used."""
            centres, present, stats = means(params, used)
            out = logits(params, stats, centres, present, copy(key, support_x))
            each = optax.softmax_cross_entropy_with_integer_labels(out, support_y)
            return jnp.where(judged, each, 0.0).sum() / judged.sum(dtype=each.dtype)

        def tune(rate: Array, used: Array) -> PyTree:
            optimizer = rule(rate)

            def step(carry: tuple[PyTree, Any], key: Array) -> tuple[tuple[PyTree, Any], None]:
                params, state = carry
                grads = jax.grad(copies_loss)(params, key, used, used)
                return optimizer_step(optimizer, None, grads, state, params, order=1), None

            return jax.lax.scan(step, (theta, optimizer.init(theta)), jax.random.split(tune_key, test_steps))[0][0]

        def held_out_loss(rate: Array) -> Array:
            params = tune(rate, ~held)
            keys = jax.random.split(judge_key, COPIES)
            return jax.lax.map(lambda key: copies_loss(params, key, ~held, last), keys).mean()

        last, held = last_of_classes(support_y)
        everything = jnp.ones_like(last)
        dtype = jax.tree.leaves(theta)[0].dtype
        tried = rates_tried(inner_lr, rate_choices, dtype)
        losses = jax.lax.map(held_out_loss, tried) if rate_choices else jnp.zeros(0, dtype)
        rate = tried[losses.argmin()] if rate_choices else jnp.asarray(inner_lr, dtype)
        params = tune(rate, everything)
        return Tuned(params, *means(params, everything), rate, losses)

    def predict(theta: PyTree, phi: Tuned, x: Array) -> Array:
        return logits(phi.params, phi.stats, phi.centres, phi.present, x)

    return checked(Learner(net.init, adapt, predict, source.loss), labels_only=True)


def rates_tried(inner_lr: float | Array, count: int, dtype: Any) -> Array:
    """0, inner_lr, inner_lr / 10, ...: [count + 1]."""
    return jnp.asarray(inner_lr, dtype) * jnp.asarray([0.0, *(0.1**k for k in range(count))], dtype)


def last_of_classes(y: Array) -> tuple[Array, Array]:
    """Which labels y [n] are the last of their class, and which of those are not its only one: two of [n] bool."""
    same = y[:, None] == y[None, :]
    last = ~jnp.triu(same, 1).any(1)
    return last, last & (same.sum(1) > 1)
