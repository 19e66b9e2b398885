"""FEAT: class means that look at each other, through one layer of self-attention."""

import jax
import jax.numpy as jnp

from mtl_jax.learners.checks import check_above, check_counts, check_least, checked, feature_network
from mtl_jax.learners.objective import as_dtype, count_ways, never_absent, objective, query_objective, task_ways
from mtl_jax.learners.protonet import Prototypes, class_means, squared_euclidean
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


def attend(params: PyTree, z: Array, sees: Array) -> Array:
    """One layer of self-attention with one head, a residual connection and a layer normalisation.

    z_i <- gain (h_i - mean(h_i)) / std(h_i) + shift, h_i = z_i + O sum_j softmax_j(Q z_i . K z_j / sqrt(d)) V z_j

    Args:
        params: {"query", "key", "value", "out"} [d, d], {"gain", "shift"} [d].
        z: [n, d] the set; its order does not count.
        sees: [n, n] bool, or what broadcasts to it: whether i sees j.

    Returns:
        [n, d].
    """
    query, key, value = (z @ params[name] for name in ("query", "key", "value"))
    scores = jnp.where(sees, query @ key.T / z.shape[1] ** 0.5, jnp.finfo(z.dtype).min)
    h = z + jax.nn.softmax(scores) @ value @ params["out"]
    h = h - h.mean(-1, keepdims=True)
    return h * jax.lax.rsqrt(jnp.square(h).mean(-1, keepdims=True) + 1e-5) * params["gain"] + params["shift"]


@checks_arguments
def feat(
    net: Model,
    temperature: float = 64.0,
    balance: float = 0.0,
    contrast_temperature: float = 64.0,
    ways: int | None = None,
) -> Learner:
    """Prototypical networks whose prototypes a set-to-set function adapts to the task.

    c = attend(class means of f_theta over the support set);  logits_k = -||f_theta(x) - c_k||^2 / temperature

    With balance above 0 the loss has a contrastive term: the images of each class, support and query together, attend
    to each other, e_k is their mean after it, and -log softmax_k(-||f(x) - e_k||^2 / contrast_temperature)[y] is
    averaged over all images.

    Args:
        net: a network without head, such as conv4(ways=None).
        temperature: what squared distances are divided by, above 0.
        balance: weight of the contrastive term, at least 0.
        contrast_temperature: its temperature, above 0.
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta is {"net", "attention": {query, key, value, out [d, d], gain, shift [d]}}, phi is Prototypes.
        While tracing with `ways` unknown, predict gives a logit for each support example; those past the true ways
        never win.

    Raises:
        ValueError: a setting out of range.

    Reference: Ye, Hu, Zhan and Sha 2020, arXiv 1812.03664.

    Note: without the dropout of the authors' code, since a loss here draws nothing at random. Their temperatures depend
    on network and shots; 64 is that of most of their settings.
    """
    check_above(temperature=temperature, contrast_temperature=contrast_temperature)
    check_least(balance=balance)
    check_counts(ways=ways)
    net = feature_network(net, "feat")

    def init(key: Array, x: Array) -> PyTree:
        net_key, *keys = jax.random.split(key, 5)
        params = net.init(net_key, x)
        z = jax.eval_shape(lambda p: net.apply(p, x, None)[0], params)
        d = z.shape[1]
        names = ("query", "key", "value", "out")
        maps = {name: jax.random.normal(k, (d, d), z.dtype) / d**0.5 for name, k in zip(names, keys, strict=True)}
        return {"net": params, "attention": maps | {"gain": jnp.ones(d, z.dtype), "shift": jnp.zeros(d, z.dtype)}}

    def distances(z: Array, centres: Array, divisor: float | Array) -> Array:
        return -squared_euclidean(z, centres) / as_dtype(divisor, z.dtype)

    def solve(theta: PyTree, support_x: Array, support_y: Array, slots: int) -> tuple[Prototypes, Array]:
        z, stats = net.apply(theta["net"], support_x, None)
        means, present = class_means(z, support_y, slots)
        return Prototypes(attend(theta["attention"], means, present), present, stats), z

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Prototypes:
        return solve(theta, support_x, support_y, count_ways(support_y, ways))[0]

    def predict(theta: PyTree, phi: Prototypes, x: Array) -> Array:
        z, _ = net.apply(theta["net"], x, phi.stats)
        return never_absent(distances(z, phi.centres, temperature), phi.present)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        slots = task_ways(episode, ways)
        phi, support = solve(theta, episode.support_x, episode.support_y, slots)
        z, _ = net.apply(theta["net"], episode.query_x, phi.stats)
        value, metrics = query_objective(
            never_absent(distances(z, phi.centres, temperature), phi.present), episode, spare=True
        )
        if not isinstance(balance, jax.Array) and balance == 0:
            return value, metrics
        every, y = jnp.concatenate((support, z)), jnp.concatenate((episode.support_y, episode.query_y))
        centres, present = class_means(attend(theta["attention"], every, y[:, None] == y), y, slots)
        contrast, _ = objective(never_absent(distances(every, centres, contrast_temperature), present), y)
        return value + as_dtype(balance, z.dtype) * contrast, metrics

    return checked(Learner(init, adapt, predict, loss), labels_only=True)
