"""Simple CNAPS's classifier: Mahalanobis distances to class means, with a covariance for each class."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.learners.checks import check_counts, checked, feature_network
from mtl_jax.learners.objective import count_ways, never_absent, query_objective, task_ways
from mtl_jax.learners.protonet import class_means
from mtl_jax.learners.ridge import ridge
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


class Gaussians(NamedTuple):
    """One task's solution: class means [ways, d], roots [ways, n, d] with Q_k = roots_k' roots_k + I, which classes
    exist [ways], and moments."""

    centres: Array
    roots: Array
    present: Array
    stats: Any


def mahalanobis(x: Array, centre: Array, root: Array) -> Array:
    """(x - c)' Q^-1 (x - c) of each row of x, Q = R' R + I, as the least value of ||x - c - R' w||^2 + ||w||^2.

    Q, [d, d], is never made; and no difference of large numbers is taken, so that any size of features will do.

    Args:
        x: [n, d].
        centre: [d] c.
        root: [r, d] R.

    Returns:
        [n].
    """
    far = (x - centre).T
    w = ridge(root.T, far, jnp.ones((), x.dtype))
    return jnp.square(far - root.T @ w).sum(0) + jnp.square(w).sum(0)


@checks_arguments
def simple_cnaps(net: Model, ways: int | None = None) -> Learner:
    """Prototypical networks with a Mahalanobis distance, whose covariance is estimated from each task's support set.

    Q_k = l_k S_k + (1 - l_k) S + I, l_k = n_k / (n_k + 1), with S_k the covariance of the n_k support features of class
    k, and S that of all;  logits_k = -1/2 (f(x) - c_k)' Q_k^-1 (f(x) - c_k)

    Args:
        net: a network without head, such as conv4(ways=None).
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta are the network's parameters, phi is Gaussians(centres, roots, present, stats). While tracing
        with `ways` unknown, predict gives a logit for each support example; those past the true ways never win.

    Raises:
        ValueError: ways below 1.

    Reference: Bateni, Goyal, Masrani, Wood and Sigal 2020, arXiv 1912.03432.

    Note: this is the paper's classifier alone. Its network that makes FiLM layers out of a task is left out; here the
    body itself is trained on episodes. Covariances are divided by n - 1, and are 0 of one example. I has the features'
    unit: of features of length 1 it is most of Q, and of large ones little.
    """
    check_counts(ways=ways)
    net = feature_network(net, "simple_cnaps")

    def solve(theta: PyTree, support_x: Array, support_y: Array, slots: int) -> Gaussians:
        z, stats = net.apply(theta, support_x, None)
        means, present = class_means(z, support_y, slots)
        member = jax.nn.one_hot(support_y, slots, axis=0, dtype=z.dtype)  # [ways, n]
        count = member.sum(1)
        share = count / (count + 1.0)
        # The square root of Q_k - I has a row per example: in class k the sum of two parts that are orthogonal.
        of_all = (1.0 - share) / max(len(z) - 1, 1)
        both = jnp.sqrt(share / jnp.maximum(count - 1.0, 1.0) + of_all)[:, None, None]
        of_all = jnp.sqrt(of_all)[:, None, None]
        centre = z.mean(0)
        inside = both * (z - means[:, None]) + of_all * (means - centre)[:, None]
        roots = jnp.where(member[..., None] > 0, inside, of_all * (z - centre))
        return Gaussians(means, roots, present, stats)

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Gaussians:
        return solve(theta, support_x, support_y, count_ways(support_y, ways))

    def predict(theta: PyTree, phi: Gaussians, x: Array) -> Array:
        z, _ = net.apply(theta, x, phi.stats)
        # Class by class: QR decompositions of many tall matrices at once can stop for ever where a CPU's cores are
        # devices.
        distances = jax.lax.map(lambda each: mahalanobis(z, *each), (phi.centres, phi.roots)).T
        return never_absent(-0.5 * distances, phi.present)

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        phi = solve(theta, episode.support_x, episode.support_y, task_ways(episode, ways))
        return query_objective(predict(theta, phi, episode.query_x), episode, spare=True)

    return checked(Learner(net.init, adapt, predict, loss), labels_only=True)
