"""BD-CSPN: class means that are rectified by the queries. Transductive."""

import jax
import jax.numpy as jnp

from mtl_jax.learners.checks import check_above, check_counts, checked, feature_network
from mtl_jax.learners.finetune import finetune
from mtl_jax.learners.objective import as_dtype, count_ways, never_absent
from mtl_jax.learners.protonet import class_means, cosine, unit
from mtl_jax.learners.tim import Support
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Learner, Model, PyTree


def rectified(
    support: Array, y: Array, queries: Array, centres: Array, present: Array, temperature: float | Array, pseudo: int
) -> Array:
    """Class means over the support set and the queries that are surest of the class, weighted by their similarity.

    c'_k = sum_i w_i x_i over X_k, w_i = softmax_i(temperature cos(x_i, c_k)), with X_k the support of class k and the
    `pseudo` queries nearest to c_k among those for which c_k is the nearest

    Args:
        support: [n, d].
        y: [n] their labels.
        queries: [m, d].
        centres: [ways, d] c.
        present: [ways] bool.
        temperature: of the weights.
        pseudo: queries per class at most.

    Returns:
        [ways, d].
    """
    scores = as_dtype(temperature, queries.dtype) * (1.0 - cosine(queries, centres))
    scores = never_absent(scores, present)
    least = jnp.finfo(scores.dtype).min
    chosen = jnp.arange(len(centres)) == scores.argmax(1)[:, None]  # [m, ways]
    order = jnp.argsort(-jnp.where(chosen, scores, least), axis=0)
    chosen &= jnp.argsort(order, axis=0) < pseudo
    of_support = as_dtype(temperature, queries.dtype) * (1.0 - cosine(support, centres))
    mine = jnp.arange(len(centres), dtype=y.dtype) == y[:, None]
    members = jnp.concatenate((mine, chosen))
    weights = jax.nn.softmax(jnp.where(members, jnp.concatenate((of_support, scores)), least), axis=0)
    return weights.T @ jnp.concatenate((support, queries))


@checks_arguments
def bdcspn(
    net: Model,
    classes: int,
    temperature: float = 10.0,
    pseudo: int = 8,
    label_smoothing: float = 0.0,
    ways: int | None = None,
) -> Learner:
    """Pre-train a network with all source classes, then rectify each task's class means by its queries.

    u(x) = f_theta(x) / ||f_theta(x)||; queries are moved by mean u(support) - mean u(queries), so that both sets have
    one mean; c' = rectified(...), see there;  logits_k = temperature cos(u(x), c'_k)

    Transductive: `predict` takes all queries of a task at once, and each answer depends on all of them. The move
    assumes that classes are about equally many among the queries. `loss` is the pre-training, as in `finetune`.

    Args:
        net: a network without head, such as conv4(ways=None).
        classes: source classes; `batch_classes(pool, augment)` says how many a pool has.
        temperature: of cosines, above 0.
        pseudo: queries per class, at most, that join its mean.
        label_smoothing: share of each pre-training target that is spread evenly over all classes, in [0, 1).
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta is finetune's {"net", "classes"}, phi is Support(features, labels, centres, present, stats).

    Raises:
        ValueError: a setting out of range, or as `finetune`.

    Reference: Liu, Song and Qin 2020, arXiv 1911.10713.

    Note: the paper pre-trains with a cosine classifier; here pre-training is `finetune`'s.
    """
    check_above(temperature=temperature)
    check_counts(pseudo=pseudo)
    net = feature_network(net, "bdcspn")
    source = finetune(net, classes, label_smoothing=label_smoothing, ways=ways)

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Support:
        z, stats = net.apply(theta["net"], support_x, None)
        z = unit(z)
        return Support(z, support_y, *class_means(z, support_y, count_ways(support_y, ways)), stats)

    def predict(theta: PyTree, phi: Support, x: Array) -> Array:
        z = unit(net.apply(theta["net"], x, phi.stats)[0])
        z = z + phi.features.mean(0) - z.mean(0)
        centres = rectified(phi.features, phi.labels, z, phi.centres, phi.present, temperature, pseudo)
        return never_absent(as_dtype(temperature, z.dtype) * (1.0 - cosine(z, centres)), phi.present)

    return checked(Learner(source.init, adapt, predict, source.loss), labels_only=True, of_source=True)
