"""ANIL, BOIL, Meta-SGD and Proto-MAML: each against the definition that makes it differ from MAML."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from mtl_jax import Episode, Model, models
from mtl_jax.learners.anil import anil
from mtl_jax.learners.boil import boil
from mtl_jax.learners.maml import maml
from mtl_jax.learners.meta_sgd import meta_sgd
from mtl_jax.learners.objective import objective
from mtl_jax.learners.proto_maml import proto_maml
from mtl_jax.learners.protonet import protonet

WITH_HEAD = {"anil": anil, "boil": boil, "meta_sgd": meta_sgd}
EVERY = {**WITH_HEAD, "proto_maml": proto_maml}


def episode(key, ways=3, shots=2, queries=4, dtype=jnp.float64, shape=(6,)):
    k1, k2 = jax.random.split(key)
    y = jnp.arange(ways, dtype=jnp.int32)
    x = [jax.random.normal(k, (ways * n, *shape), dtype) for k, n in ((k1, shots), (k2, queries))]
    return Episode(x[0], jnp.repeat(y, shots), x[1], jnp.repeat(y, queries), y)


def smooth_net(ways=3):
    """A tanh layer, then a head unless ways is None: every derivative exists."""

    def init(key, x):
        k1, k2 = jax.random.split(key)
        params = {"body": {"kernel": jax.random.normal(k1, (x.shape[-1], 5), x.dtype) / 2}}
        head = {"kernel": jax.random.normal(k2, (5, ways or 1), x.dtype), "bias": jnp.ones(ways or 1, x.dtype)}
        return params | ({"head": head} if ways else {})

    def apply(params, x, stats=None):
        z = jnp.tanh(x @ params["body"]["kernel"])
        return (z @ params["head"]["kernel"] + params["head"]["bias"] if "head" in params else z), None

    return Model(init, apply)


def support_loss(net, e):
    return lambda p: objective(net.apply(p, e.support_x, None)[0], e.support_y)[0]


def query_loss(net, e):
    return lambda p: objective(net.apply(p, e.query_x, None)[0], e.query_y)[0]


def gradient(learner, theta, e):
    return jax.jit(jax.grad(lambda t: learner.loss(t, e)[0]))(theta)


def close(a, b, rtol=1e-9, atol=1e-12):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


@pytest.mark.parametrize(("method", "moving"), [(anil, "head"), (boil, "body")])
@pytest.mark.parametrize("order", [1, 2])
def test_it_is_maml_with_the_other_gradients_zeroed(key, method, moving, order):
    """Written out by hand on the whole network, with no scan, no split and no cached features."""
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net()
        theta = net.init(key, e.support_x)

        def descend(theta, order=order):
            phi = theta
            for _ in range(4):
                g = jax.grad(support_loss(net, e))(phi)
                g = jax.lax.stop_gradient(g) if order == 1 else g
                phi = {k: jax.tree.map(lambda p, g, k=k: p - 0.3 * (k == moving) * g, phi[k], g[k]) for k in phi}
            return phi

        learner = method(net, 0.3, 4, order)
        phi = learner.adapt(theta, e.support_x, e.support_y)
        close(phi.params, descend(theta))
        fixed = "body" if moving == "head" else "head"
        jax.tree.map(np.testing.assert_array_equal, phi.params[fixed], theta[fixed])
        assert not np.allclose(phi.params[moving]["kernel"], theta[moving]["kernel"])
        close(gradient(learner, theta, e), jax.grad(lambda t: query_loss(net, e)(descend(t)))(theta))


@pytest.mark.parametrize("name", EVERY)
def test_finite_differences_through_five_inner_steps(key, name):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net(None if name == "proto_maml" else 3)
        learner = EVERY[name](net, 0.3, 5)
        check_grads(lambda t: learner.loss(t, e)[0], (learner.init(key, e.support_x),), 1, modes=["rev"], eps=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_orders_differ_and_remat_changes_nothing(key, name):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net(None if name == "proto_maml" else 3)
        theta = EVERY[name](net).init(key, e.support_x)
        first, second = (gradient(EVERY[name](net, 0.3, 3, order), theta, e) for order in (1, 2))
        away = optax.tree.norm(jax.tree.map(jnp.subtract, first, second))
        assert away > 0.01 * optax.tree.norm(second)
        if name != "anil":  # whose inner steps keep nothing worth recomputing
            close(gradient(EVERY[name](net, 0.3, 3, remat=True), theta, e), second)


def test_meta_sgd_with_equal_rates_is_maml(key):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net()
        theta = meta_sgd(net, 0.3).init(key, e.support_x)
        assert all((r == 0.3).all() for r in jax.tree.leaves(theta["rates"]))
        for order in (1, 2):
            got = gradient(meta_sgd(net, 0.3, 3, order), theta, e)["net"]
            close(got, gradient(maml(net, 0.3, 3, order), theta["net"], e))


def test_the_gradient_of_meta_sgds_rates_is_minus_v_times_g(key):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net()
        params = net.init(key, e.support_x)
        keys = dict(zip(params, jax.random.split(key, 2), strict=True))
        rates = {
            k: jax.tree.map(lambda p, k=k: jax.random.normal(keys[k], p.shape, p.dtype), params[k]) for k in params
        }
        g = jax.grad(support_loss(net, e))(params)
        phi = jax.tree.map(lambda p, r, g: p - r * g, params, rates, g)
        v = jax.grad(query_loss(net, e))(phi)
        theta = {"net": params, "rates": rates}
        close(meta_sgd(net, 0.3, 1, test_steps=None).adapt(theta, e.support_x, e.support_y).params, phi)
        for order in (1, 2):
            got = gradient(meta_sgd(net, 0.3, 1, order), theta, e)["rates"]
            close(got, jax.tree.map(lambda v, g: -v * g, v, g))


def test_meta_sgds_rates_multiply_an_inner_optimisers_updates(key):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net()
        rule = optax.adam(0.1, eps_root=1e-8)
        theta = meta_sgd(net, inner_optimizer=rule).init(key, e.support_x)
        plain, rated = maml(net, inner_steps=3, inner_optimizer=rule), meta_sgd(net, 0.3, 3, inner_optimizer=rule)
        close(gradient(rated, theta, e)["net"], gradient(plain, theta["net"], e))


def test_proto_maml_at_no_rate_is_protonet(key):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net(None)
        learner, metric = proto_maml(net, 1e-12), protonet(net)
        theta = learner.init(key, e.support_x)
        got, want = (f.predict(theta, f.adapt(theta, e.support_x, e.support_y), e.query_x) for f in (learner, metric))
        close(jax.nn.log_softmax(got), jax.nn.log_softmax(want), rtol=1e-7)
        close(gradient(learner, theta, e), gradient(metric, theta, e), rtol=1e-6, atol=1e-9)


def test_proto_maml_steps_on_body_and_head_from_the_prototypes(key):
    with jax.enable_x64(True):
        e, net = episode(key, ways=4, shots=3), smooth_net(None)
        y = jnp.array([0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 3], jnp.int32)  # not as many of each
        theta = net.init(key, e.support_x)
        z, _ = net.apply(theta, e.support_x)
        c = jnp.stack([z[np.asarray(y) == k].mean(0) for k in range(4)])
        start = (theta, 2 * c.T, -jnp.array([row @ row for row in c]))

        def on_support(phi):
            return objective(net.apply(phi[0], e.support_x)[0] @ phi[1] + phi[2], y)[0]

        body, kernel, bias = jax.tree.map(lambda p, g: p - 0.2 * g, start, jax.grad(on_support)(start))
        learner = proto_maml(net, 0.2, 1)
        phi = learner.adapt(theta, e.support_x, y)
        close(phi.params, body)
        close(phi.head["kernel"] + 2 * phi.origin[:, None], kernel)
        got = learner.predict(theta, phi, e.query_x)  # but for what all classes share
        close(jax.nn.log_softmax(got), jax.nn.log_softmax(net.apply(body, e.query_x)[0] @ kernel + bias))


@pytest.mark.parametrize(("ways", "shots"), [(1, 1), (4, 3)])
def test_proto_maml_counts_ways_and_spare_slots_never_win(key, ways, shots):
    e = episode(key, ways, shots, dtype=jnp.float32)
    learner = proto_maml(smooth_net(None), 0.1, 2)
    theta = learner.init(key, e.support_x)

    def logits(x, y, q):
        return learner.predict(theta, learner.adapt(theta, x, y), q)

    eager, traced = (f(e.support_x, e.support_y, e.query_x) for f in (logits, jax.jit(logits)))
    assert eager.shape == (4 * ways, ways)
    assert traced.shape == (4 * ways, ways * shots)
    close(traced[:, :ways], eager, rtol=1e-4, atol=1e-4)
    assert (traced[:, ways:] < -1e8).all()
    if ways > 1:
        assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(gradient(learner, theta, e)))


@pytest.mark.parametrize("name", EVERY)
def test_images_under_support_norm_jit_and_vmap(key, name):
    """The networks of the house, float32: a query does not see the others, and tasks run side by side."""
    es = jax.vmap(lambda k: episode(k, shots=1, dtype=jnp.float32, shape=(8, 8, 1)))(jax.random.split(key, 2))
    one = jax.tree.map(lambda a: a[0], es)
    learner = EVERY[name](models.conv4(None if name == "proto_maml" else 3, 4, "support", "stride"), 0.1, 2)
    theta = learner.init(key, one.support_x)

    @jax.jit
    def everything(theta, es, one):
        phi = learner.adapt(theta, one.support_x, one.support_y)
        together, apart = (learner.predict(theta, phi, x) for x in (one.query_x, one.query_x[:2]))
        return jax.vmap(learner.loss, in_axes=(None, 0))(theta, es), learner.loss(theta, one), together, apart

    (loss, metrics), alone, together, apart = everything(theta, es, one)
    close(together[:2], apart, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loss[0], alone[0], rtol=1e-4)
    assert metrics["accuracy"].shape == (2,)
    assert metrics["accuracy"].dtype == jnp.float32


@pytest.mark.parametrize("name", WITH_HEAD)
def test_regression_takes_float_targets(key, name):
    x = jax.random.normal(key, (6, 1))
    e = Episode(x, jnp.sin(x), x, jnp.sin(x))
    net = models.mlp(1, (8,))
    learner = WITH_HEAD[name](net, 0.05, 3, test_steps=60)
    theta = learner.init(key, x)
    loss, metrics = learner.loss(theta, e)
    assert metrics["mse"] == loss
    phi = learner.adapt(theta, x, jnp.sin(x))
    fitted = np.mean((np.asarray(learner.predict(theta, phi, x)) - np.sin(x)) ** 2)
    assert fitted < 0.8 * loss  # more steps than in training fit better


@pytest.mark.parametrize("name", ["anil", "boil"])
def test_a_network_without_head_is_refused(key, name):
    learner, x = EVERY[name](models.mlp(None, (4,))), jnp.ones((3, 2))
    with pytest.raises(ValueError, match="no head among its dense0: build it with ways"):
        learner.init(key, x)
    with pytest.raises(ValueError, match="no head"):
        learner.adapt({"dense0": {}}, x, jnp.zeros(3, jnp.int32))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inner_lr": 0.0}, "inner_lr must be above 0"),
        ({"inner_steps": 0}, "inner steps must be at least 1"),
        ({"test_steps": -1}, "inner steps must be at least 1"),
        ({"order": 3}, "order must be 1 or 2"),
    ],
)
def test_bad_settings_are_refused(name, settings, words):
    with pytest.raises(ValueError, match=words):
        EVERY[name](models.mlp(1), **settings)
