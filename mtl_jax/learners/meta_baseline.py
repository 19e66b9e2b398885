"""Meta-Baseline: cosine similarity to class means with a learned temperature, from a pre-trained body."""

import jax
import jax.numpy as jnp

from mtl_jax.learners.checks import check_above, check_counts, checked, feature_network
from mtl_jax.learners.objective import count_ways, never_absent, query_objective, task_ways
from mtl_jax.learners.protonet import Prototypes, class_means, cosine
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


@checks_arguments
def meta_baseline(net: Model, init_temperature: float = 10.0, ways: int | None = None) -> Learner:
    """Nearest class mean by cosine, whose temperature is meta-learned with the network.

    c_k = mean of f_theta(x) over the support of class k;  logits_k = t cos(f_theta(x), c_k), t = exp(log_t) learned

    The network starts from one that was pre-trained on all source classes; episodes then train all of it.

    Args:
        net: a network without head, such as conv4(ways=None).
        init_temperature: where t starts, above 0.
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta is {"net", "log_temperature": []}, phi is Prototypes(centres, present, stats). While tracing with
        `ways` unknown, predict gives a logit for each support example; those past the true ways never win.

    Raises:
        ValueError: a setting out of range.

    Reference: Chen, Liu, Xu, Darrell and Wang 2021, arXiv 2003.04390.

    Note: the authors learn t itself; its logarithm keeps it above 0.
    """
    check_above(init_temperature=init_temperature)
    check_counts(ways=ways)
    net = feature_network(net, "meta_baseline")

    def init(key: Array, x: Array) -> PyTree:
        params = net.init(key, x)
        features = jax.eval_shape(lambda p: net.apply(p, x, None)[0], params)
        return {"net": params, "log_temperature": jnp.log(jnp.asarray(init_temperature, features.dtype))}

    def solve(theta: PyTree, support_x: Array, support_y: Array, slots: int) -> Prototypes:
        features, stats = net.apply(theta["net"], support_x, None)
        return Prototypes(*class_means(features, support_y, slots), stats)

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Prototypes:
        return solve(theta, support_x, support_y, count_ways(support_y, ways))

    def predict(theta: PyTree, phi: Prototypes, x: Array) -> Array:
        features, _ = net.apply(theta["net"], x, phi.stats)
        temperature = jnp.exp(theta["log_temperature"]).astype(features.dtype)
        return never_absent(temperature * (1.0 - cosine(features, phi.centres)), phi.present)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        phi = solve(theta, episode.support_x, episode.support_y, task_ways(episode, ways))
        return query_objective(predict(theta, phi, episode.query_x), episode, spare=True)

    return checked(Learner(init, adapt, predict, loss), labels_only=True)
