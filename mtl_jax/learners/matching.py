"""Matching networks: a query's label is the labels of the support set, weighted by attention."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.learners.checks import check_above, check_counts, checked, feature_network
from mtl_jax.learners.objective import as_dtype, count_ways, never_absent, query_objective, task_ways
from mtl_jax.learners.protonet import cosine
from mtl_jax.models.arguments import checks_arguments
from mtl_jax.models.recurrent import Recurrent, lstm_cell
from mtl_jax.types import Array, Episode, Learner, Model, PyTree


class Matched(NamedTuple):
    """One task's solution: support features [n, d] and one-hot labels [n, ways], and the support set's moments."""

    features: Array
    labels: Array
    stats: Any


@checks_arguments
def matching(
    net: Model,
    full_context: bool = False,
    context_steps: int = 5,
    temperature: float = 10.0,
    ways: int | None = None,
) -> Learner:
    """Matching networks.

    p(y | x) = sum_i a_i y_i,  a = softmax_i(temperature cos(f(x), g(x_i))) over the support set

    With full context embeddings g(x_i) also depends on the whole support set, and f(x) looks at it K times:
    g(x_i) = g'(x_i) + h_i + h'_i with h, h' the outputs of two LSTMs over g'(x_1..n), forwards and backwards;
    h_k = LSTM(f'(x), [h_{k-1}, r_{k-1}]) + f'(x),  r = sum_i softmax_i(h . g(x_i)) g(x_i),  f(x) = h_K

    Args:
        net: a network without head, such as conv4(ways=None), for f' and g' both.
        full_context: whether to use full context embeddings.
        context_steps: K of these.
        temperature: what cosines are multiplied by.
        ways: classes of a task; counted from the support labels unless given.

    Returns:
        Learner; theta are the network's parameters, or with full context {"net", "fce": {attention, backward,
        forward}}; phi is Matched(features, labels, stats). predict gives log-probabilities; while tracing with
        `ways` unknown, one for each support example, of which those past the true ways never win.

    Raises:
        ValueError: context_steps below 1, or a temperature not above 0.

    Reference: Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra 2016, arXiv 1606.04080.

    Note: the paper's softmax is of bare cosines, whose range leaves it nearly flat; a temperature of 1 gives that.
    Full context depends on the order of the support set, of which the paper says nothing; `sample_episode` draws
    which class is whose label, so that places tell nothing. h_0 is 0. Cosines of a network that prototypes have trained
    lie close together: on protonet-omniglot's the loss of 60 ways is 3.8 at 20, where guessing has 4.1, and 0.9 at 400.
    """
    check_counts(context_steps=context_steps, ways=ways)
    check_above(temperature=temperature)
    net = feature_network(net, "matching")

    def split(theta: PyTree) -> tuple[PyTree, PyTree]:
        return (theta["net"], theta["fce"]) if full_context else (theta, None)

    def init(key: Array, x: Array) -> PyTree:
        if not full_context:
            return net.init(key, x)
        net_key, *keys = jax.random.split(key, 4)
        params = net.init(net_key, x)
        z = jax.eval_shape(lambda p: net.apply(p, x, None)[0], params)
        d, cell = z.shape[1], lstm_cell(z.shape[1])
        inputs = {"forward": d, "backward": d, "attention": 2 * d}
        fce = {name: cell.init(k, seen, z.dtype) for k, (name, seen) in zip(keys, inputs.items(), strict=True)}
        return {"net": params, "fce": fce}

    def solve(theta: PyTree, support_x: Array, support_y: Array, slots: int) -> Matched:
        params, fce = split(theta)
        features, stats = net.apply(params, support_x, None)
        if full_context:
            features = embed_support(lstm_cell(features.shape[1]), fce, features)
        return Matched(features, jax.nn.one_hot(support_y, slots, dtype=features.dtype), stats)

    def adapt(theta: PyTree, support_x: Array, support_y: Array) -> Matched:
        return solve(theta, support_x, support_y, count_ways(support_y, ways))

    def predict(theta: PyTree, phi: Matched, x: Array) -> Array:
        params, fce = split(theta)
        features, _ = net.apply(params, x, phi.stats)
        if full_context:
            features = embed_queries(lstm_cell(features.shape[1]), fce, features, phi.features, context_steps)
        scores = -as_dtype(temperature, features.dtype) * cosine(features, phi.features)
        return never_absent(log_shares(scores, phi.labels), phi.labels.any(0))

    def loss(theta: PyTree, episode: Episode) -> tuple[Array, dict[str, Array]]:
        phi = solve(theta, episode.support_x, episode.support_y, task_ways(episode, ways))
        return query_objective(predict(theta, phi, episode.query_x), episode, spare=True)

    return checked(Learner(init, adapt, predict, loss), labels_only=True)


def attention(x: Array, support: Array, temperature: float) -> Array:
    """softmax_i(temperature cos(x, s_i)) of every row of x [q, d] over the rows of support [n, d]: [q, n]."""
    return jax.nn.softmax(-temperature * cosine(x, support), axis=-1)


def log_shares(scores: Array, labels: Array) -> Array:
    """log sum_{i of class k} softmax_i(scores) of scores [q, n] and one-hot labels [n, ways], from sums of logarithms.

    Each class's exponentials are relative to its own largest one, so that a class that is far behind keeps its value
    and its gradient. Those without rows get some number.
    """
    present = labels.any(0)
    fixed = jax.lax.stop_gradient(scores)
    largest = jnp.where(labels.T > 0, fixed[:, None], -jnp.inf).max(-1)  # [q, ways]
    largest = jnp.where(present, largest, 0.0)
    shares = jnp.exp(scores - largest[:, labels.argmax(-1)]) @ labels
    shares = jnp.where(present, shares, 1.0)
    return jnp.log(shares) + largest - jax.nn.logsumexp(scores, axis=-1, keepdims=True)


def embed_support(cell: Recurrent, fce: PyTree, features: Array) -> Array:
    """Full context embeddings of support features [n, d], which are read in their order: [n, d]."""

    def read(params: PyTree, reverse: bool) -> Array:
        start = cell.start(1, features.dtype)
        return jax.lax.scan(lambda c, z: cell.step(params, c, z[:, None]), start, features, reverse=reverse)[1][..., 0]

    return features + read(fce["forward"], False) + read(fce["backward"], True)


def embed_queries(cell: Recurrent, fce: PyTree, features: Array, support: Array, steps: int) -> Array:
    """Full context embeddings of query features [q, d], each by itself, given those of the support [n, d]: [q, d]."""

    def look(carry: tuple[Array, Array], none: None) -> tuple[tuple[Array, Array], None]:
        c, h = carry
        r = support.T @ jax.nn.softmax(support @ h, axis=0)
        (c, out), _ = cell.step(fce["attention"], (c, h), jnp.concatenate((features.T, r)))
        return (c, out + features.T), None

    return jax.lax.scan(look, cell.start(len(features), features.dtype), length=steps)[0][1].T
