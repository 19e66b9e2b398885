"""TIM: a head that the queries' own information tells apart, besides the support set. Transductive."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.learners.checks import check_above, check_least, checked, feature_network
from mtl_jax.learners.finetune import finetune
from mtl_jax.learners.inner import check_inner, inner_loop
from mtl_jax.learners.objective import as_dtype, count_ways, never_absent, objective
from mtl_jax.learners.protonet import class_means, squared_euclidean, unit
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Learner, Model, PyTree


class Support(NamedTuple):
    """What a transductive method keeps of the support set: features [n, d] of length 1, labels [n], their class means
    [ways, d], which classes exist [ways], and moments."""

    features: Array
    labels: Array
    centres: Array
    present: Array
    stats: Any


def information_loss(
    logits: Array, support_logits: Array, y: Array, weights: tuple[float | Array, float | Array, float | Array]
) -> Array:
    """TIM's loss: a CE(support) - b H(mean_i p_i) + c mean_i H(p_i), p_i = softmax(logits_i) of the queries.

    Args:
        logits: [m, ways] of the queries.
        support_logits: [n, ways].
        y: [n] the support labels.
        weights: (a, b, c).

    Returns:
        [].
    """
    a, b, c = (as_dtype(w, logits.dtype) for w in weights)
    log_p = jax.nn.log_softmax(logits)
    p = jnp.exp(log_p)
    mean = p.mean(0)
    of_mean = -(mean * jnp.log(mean + 1e-12)).sum()
    of_each = -(p * log_p).sum(1).mean()
    return a * objective(support_logits, y)[0] - b * of_mean + c * of_each


@checks_arguments
def tim(
    net: Model,
    classes: int,
    inner_lr: float = 1e-3,
    inner_steps: int = 100,
    temperature: float = 15.0,
    support_weight: float = 0.1,
    marginal_weight: float = 1.0,
    conditional_weight: float = 0.1,
    label_smoothing: float = 0.0,
    ways: int | None = None,
) -> Learner:
    """Pre-train a network with all source classes, then fit each task's head to the support set and to the queries.

    logits_k = -temperature / 2 ||u(x) - w_k||^2, u(x) = f_theta(x) / ||f_theta(x)||, w_k starts at the mean of u(x)
    over the support of class k; W <- W - Adam(grad information_loss(W)), inner_steps times

    Transductive: `predict` takes all queries of a task at once, and each answer depends on all of them. It assumes
    that classes are about equally many among the queries, as they are in the usual episodes. `loss` is the
    pre-training, as in `finetune`.

    Args:
        net: a network without head, such as conv4(ways=None).
        classes: source classes; `batch_classes(pool, augment)` says how many a pool has.
        inner_lr: Adam's rate.
        inner_steps: its steps.
        temperature: of the logits, above 0.
        support_weight: of the cross-entropy of the support set, at least 0.
        marginal_weight: of the entropy of the queries' mean probabilities, which is made large, at least 0.
        conditional_weight: of the mean entropy of the queries' probabilities, which is made small, at least 0.
        label_smoothing: share of each pre-training target that is spread evenly over all classes, in [0, 1).
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta is finetune's {"net", "classes"}, phi is Support.

    Raises:
        ValueError: a setting out of range, or as `finetune`.

    Reference: Boudiaf, Masud, Rony, Dolz, Piantanida and Ben Ayed 2020, arXiv 2008.11297 (TIM-GD).

    Note: the authors take 1,000 steps at 1e-4; here 100 at 1e-3, nearly the same way.
    """
    check_above(temperature=temperature, inner_lr=inner_lr)
    check_inner(inner_steps)
    weights = (support_weight, marginal_weight, conditional_weight)
    check_least(support_weight=support_weight, marginal_weight=marginal_weight, conditional_weight=conditional_weight)
    net = feature_network(net, "tim")
    source = finetune(net, classes, label_smoothing=label_smoothing, ways=ways)
    rule = optax.adam(inner_lr)

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Support:
        z, stats = jax.lax.stop_gradient(net.apply(theta["net"], support_x, None))
        z = unit(z)
        return Support(z, support_y, *class_means(z, support_y, count_ways(support_y, ways)), stats)

    def predict(theta: PyTree, phi: Support, x: Array) -> Array:
        z = unit(jax.lax.stop_gradient(net.apply(theta["net"], x, phi.stats)[0]))

        def logits(w: Array, z: Array) -> Array:
            scaled = -0.5 * as_dtype(temperature, z.dtype) * squared_euclidean(z, w)
            return never_absent(scaled, phi.present)

        def task_loss(w: Array) -> Array:
            return information_loss(logits(w, z), logits(w, phi.features), phi.labels, weights)

        return logits(inner_loop(task_loss, phi.centres, rule, inner_steps, order=1)[0], z)

    return checked(Learner(source.init, adapt, predict, source.loss), labels_only=True, of_source=True)
