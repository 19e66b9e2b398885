"""Relation Network: a learned comparison of feature maps in place of a distance."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.learners.checks import check_counts, checked, feature_network
from mtl_jax.learners.objective import count_ways, never_absent, query_objective, task_ways
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.models.layers import NormMode
from mtl_jax.models.relation import Pairs, relation_module
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


class Related(NamedTuple):
    """One task's solution: class maps [ways, h, w, c], which of them exist [ways], and both networks' moments."""

    maps: Array
    present: Array
    stats: Any
    pair_stats: Any


@checks_arguments
def relation(
    net: Model,
    module: Model | None = None,
    width: int = 64,
    norm: NormMode | None = None,
    combine: Literal["sum", "mean"] = "sum",
    ways: int | None = None,
) -> Learner:
    """Relation networks.

    r_ij = sigmoid(g([sum or mean of f(x) over the support of class j, f(x_i)]));  L = mean_ij (r_ij - 1[y_i = j])^2

    Args:
        net: a network that gives feature maps, such as conv4(ways=None, maps=True).
        module: g, a Model that takes `Pairs` in x's place and gives scores [n, ways] before the sigmoid;
            `relation_module` unless given.
        width: filters of that module.
        norm: its normalisation; unless given, "support" where `net` returns moments, else "transductive".
        combine: what of its support's maps a class's is: their "sum", as in the paper, or their "mean", by which a
            module trained on one number of shots also does at another. At one shot they are the same.
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta is {"net", "relation"}, phi is Related(maps, present, stats, pair_stats). predict gives the
        scores before the sigmoid, so that their order is the relations'. While tracing with `ways` unknown, it gives
        one for each support example; those past the true ways never win.

    Raises:
        ValueError: an unknown norm, a width below 1, or (in init or while tracing) a network without feature maps.

    Reference: Sung, Yang, Zhang, Xiang, Torr and Hospedales 2018, arXiv 1711.06025.

    Note: by the sum a module trained on one number of shots sees larger maps at another: trained at 1 shot on Omniglot,
    it has 59 % of 5-way 5-shot validation tasks by the sum and 99.3 % by the mean. The authors' code leaves the first
    two convolutions unpadded; here all are padded.
    """
    check_counts(ways=ways, width=width)
    net = feature_network(net, "relation", maps=True)
    fresh = module or relation_module(width, norm=norm or "transductive")

    def compare(theta: PyTree, pairs: Any, stats: Any, pair_stats: Any = None) -> tuple[Array, Any]:
        follow = module is None and norm is None and stats is not None
        return (relation_module(width, norm="support") if follow else fresh).apply(theta["relation"], pairs, pair_stats)

    def init(key: Array, x: Array) -> PyTree:
        net_key, relation_key = jax.random.split(key)
        params = net.init(net_key, x)
        maps = jnp.zeros_like(x, shape=jax.eval_shape(lambda p: net.apply(p, x, None)[0], params).shape)
        pairs: Any = Pairs(maps[:1], maps[:1], jnp.ones(1, bool))
        return {"net": params, "relation": fresh.init(relation_key, pairs)}

    def solve(theta: PyTree, support_x: Array, support_y: Array, slots: int) -> Related:
        maps, stats = net.apply(theta["net"], support_x, None)
        member = jax.nn.one_hot(support_y, slots, axis=0, dtype=maps.dtype)  # [ways, n]
        classes, present = jnp.tensordot(member, maps, 1), member.any(1)
        if combine == "mean":
            classes = classes / jnp.maximum(member.sum(1), 1.0)[:, None, None, None]
        return Related(classes, present, stats, compare(theta, Pairs(maps, classes, present), stats)[1])

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Related:
        return solve(theta, support_x, support_y, count_ways(support_y, ways))

    def predict(theta: PyTree, phi: Related, x: Array) -> Array:
        maps, _ = net.apply(theta["net"], x, phi.stats)
        scores, _ = compare(theta, Pairs(maps, phi.maps, phi.present), phi.stats, phi.pair_stats)
        return never_absent(scores, phi.present)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        phi = solve(theta, episode.support_x, episode.support_y, task_ways(episode, ways))
        scores = predict(theta, phi, episode.query_x)
        metrics = query_objective(scores, episode, spare=True)[1]
        target = jax.nn.one_hot(episode.query_y, scores.shape[1], dtype=scores.dtype)
        error = jnp.square(jax.nn.sigmoid(scores) - target).sum() / (len(target) * phi.present.sum(dtype=scores.dtype))
        return error, metrics

    return checked(Learner(init, adapt, predict, loss), labels_only=True)
