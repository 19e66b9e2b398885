"""SimpleShot: pre-train on all source classes, then the nearest class mean of centred features of length 1."""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.learners.checks import check_above, checked, feature_network
from mtl_jax.learners.finetune import finetune
from mtl_jax.learners.objective import as_dtype, count_ways, never_absent
from mtl_jax.learners.protonet import Prototypes, class_means, squared_euclidean, unit
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


@checks_arguments
def simpleshot(
    net: Model,
    classes: int,
    centred: bool = True,
    temperature: float = 10.0,
    label_smoothing: float = 0.0,
    ways: int | None = None,
) -> Learner:
    """Pre-train a network with all source classes, then take the nearest class mean of transformed features.

    u(x) = (f_theta(x) - m) / ||f_theta(x) - m||, c_k = mean of u(x) over the support of class k;
    logits_k = -temperature ||u(x) - c_k||^2, with m the mean feature of the source's images

    `loss` is the pre-training, as in `finetune`. m is learned beside it: 1/2 mean_j (m_j - mean_i f_theta(x_i)_j)^2 is
    added to the loss, of which the network gets no gradient. It starts at 0.

    Args:
        net: a network without head, such as conv4(ways=None).
        classes: source classes; `batch_classes(pool, augment)` says how many a pool has.
        centred: take m off (the paper's CL2N); without it features are only brought to length 1 (L2N).
        temperature: of the probabilities, above 0; it changes no answer.
        label_smoothing: share of each pre-training target that is spread evenly over all classes, in [0, 1).
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta is {"net", "classes": {kernel, bias}} and, if centred, "centre" [d]; phi is Prototypes. While
        tracing with `ways` unknown, predict gives a logit for each support example; those past the true ways never win.

    Raises:
        ValueError: a setting out of range, or as `finetune`.

    Reference: Wang, Chao, Weinberger and van der Maaten 2019, arXiv 1911.04623.

    Note: the authors compute m in a pass over the source after training; here it follows the network, and is as near
    as the outer rate lets it come. A rule whose steps do not grow with the gradient's size, such as Adam, suits it.
    """
    check_above(temperature=temperature)
    net = feature_network(net, "simpleshot")
    source = finetune(net, classes, label_smoothing=label_smoothing, ways=ways)

    def init(key: Array, x: Array) -> PyTree:
        theta = source.init(key, x)
        kernel = theta["classes"]["kernel"]
        return theta | ({"centre": jnp.zeros_like(kernel[:, 0])} if centred else {})

    def transformed(theta: PyTree, x: Array, stats: Any) -> tuple[Array, Any]:
        features, stats = net.apply(theta["net"], x, stats)
        return unit(features - theta["centre"].astype(features.dtype) if centred else features), stats

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Prototypes:
        features, stats = transformed(theta, support_x, None)
        return Prototypes(*class_means(features, support_y, count_ways(support_y, ways)), stats)

    def predict(theta: PyTree, phi: Prototypes, x: Array) -> Array:
        features, _ = transformed(theta, x, phi.stats)
        distances = squared_euclidean(features, phi.centres)
        return never_absent(-as_dtype(temperature, features.dtype) * distances, phi.present)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        if not centred:
            return source.loss(theta, episode)
        value, metrics = source.loss(theta, episode)
        # the same forward pass as in the loss, of which the compiler makes one
        mean = jax.lax.stop_gradient(net.apply(theta["net"], episode.query_x, None)[0]).mean(0)
        return value + 0.5 * jnp.square(theta["centre"] - mean).mean(), metrics

    return checked(Learner(init, adapt, predict, loss), labels_only=True, of_source=True)
