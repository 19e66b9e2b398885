"""MAML++: its parts one by one, and MAML without them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from mtl_jax import Episode, Model, models
from mtl_jax.learners.maml import maml
from mtl_jax.learners.mamlpp import mamlpp, step_weights
from mtl_jax.learners.objective import objective

OFF = {"per_step_rates": False, "multi_step_loss": False}


def episode(key, ways=3, shots=2, queries=4, dtype=jnp.float64, shape=(6,)):
    k1, k2 = jax.random.split(key)
    y = jnp.arange(ways, dtype=jnp.int32)
    x = [jax.random.normal(k, (ways * n, *shape), dtype) for k, n in ((k1, shots), (k2, queries))]
    return Episode(x[0], jnp.repeat(y, shots), x[1], jnp.repeat(y, queries), y)


def smooth_net():
    def init(key, x):
        k1, k2 = jax.random.split(key)
        return {"a": jax.random.normal(k1, (x.shape[-1], 5), x.dtype) / 2, "b": jax.random.normal(k2, (5, 3), x.dtype)}

    return Model(init, lambda params, x, stats=None: (jnp.tanh(x @ params["a"]) @ params["b"], None))


def gradient(learner, theta, e):
    return jax.jit(jax.grad(lambda t: learner.loss(t, e)[0]))(theta)


def close(a, b, rtol=1e-9, atol=1e-12):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


@pytest.mark.parametrize("order", [1, 2])
def test_with_every_part_off_it_is_maml(key, order):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net()
        theta = net.init(key, e.support_x)
        got, want = mamlpp(net, 0.3, 3, order, 4, progress=0.0, **OFF), maml(net, 0.3, 3, order, 4)
        close(gradient(got, theta, e), gradient(want, theta, e), rtol=0, atol=0)
        close(*(f.adapt(theta, e.support_x, e.support_y).params for f in (got, want)), rtol=0, atol=0)


def test_with_fresh_rates_and_the_last_loss_alone_it_is_maml_too(key):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net()
        learner = mamlpp(net, 0.3, 3, test_steps=4)
        theta = learner.init(key, e.support_x)
        assert {k: r.shape for k, r in theta["rates"].items()} == {"a": (4,), "b": (4,)}
        close(gradient(learner, theta, e)["net"], gradient(maml(net, 0.3, 3), theta["net"], e))


def test_each_step_and_layer_has_its_own_rate(key):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net()
        rates = {"a": jnp.array([0.3, 0.1]), "b": jnp.array([0.2, 0.4])}
        phi = theta = net.init(key, e.support_x)
        for step in (0, 1, 1):  # a step beyond the rates takes the last
            g = jax.grad(lambda p: objective(net.apply(p, e.support_x)[0], e.support_y)[0])(phi)
            phi = {k: phi[k] - rates[k][step] * g[k] for k in phi}
        learner = mamlpp(net, inner_steps=3)
        close(learner.adapt({"net": theta, "rates": rates}, e.support_x, e.support_y).params, phi)


@pytest.mark.parametrize("progress", [0.0, 0.03, 0.0999, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_weights_follow_the_formula_and_sum_to_1(progress, steps):
    got = np.asarray(step_weights(progress, steps))
    n, e, epochs = steps, progress, 0.1  # e / E of the authors' epochs is the run's fraction of the annealed part
    want = np.full(n, max(1 / n - e / (n * epochs), 0.03 / n))
    want[-1] = min(1 / n + e * (n - 1) / (n * epochs), 1 - (n - 1) * 0.03 / n)
    if progress >= 0.1:
        want = np.eye(n)[-1]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert got.sum() == pytest.approx(1, abs=1e-6)


def test_the_loss_is_the_weighted_sum_of_every_steps(key):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net()
        theta = net.init(key, e.support_x)
        each = [maml(net, 0.3, n).loss(theta, e) for n in (1, 2, 3)]
        learner = mamlpp(net, 0.3, 3, per_step_rates=False, progress=0.04)
        loss, metrics = learner.loss(theta, e)
        close(loss, sum(w * part[0] for w, part in zip([0.2, 0.2, 0.6], each, strict=True)), rtol=1e-6)
        close(metrics, each[-1][1])
        late = mamlpp(net, 0.3, 3, per_step_rates=False, progress=0.1)
        close(gradient(late, theta, e), gradient(maml(net, 0.3, 3), theta, e))


def test_first_order_until_is_first_order_until(key):
    with jax.enable_x64(True):
        e, net = episode(key), smooth_net()
        theta = net.init(key, e.support_x)
        settings = {"first_order_until": 0.5, **OFF}
        for progress, order in ((0.0, 1), (0.49, 1), (0.5, 2), (1.0, 2)):
            got = gradient(mamlpp(net, 0.3, 3, progress=progress, **settings), theta, e)
            close(got, gradient(maml(net, 0.3, 3, order), theta, e))
        first = gradient(maml(net, 0.3, 3, 1), theta, e)
        assert optax.tree.norm(jax.tree.map(jnp.subtract, first, got)) > 0.01 * optax.tree.norm(got)


def test_a_traced_progress_is_a_plain_one_and_compiles_once(key):
    with jax.enable_x64(True):
        es = jax.vmap(episode)(jax.random.split(key, 2))
        settings = {"inner_steps": 3, "first_order_until": 0.3}
        net, compiled = smooth_net(), 0
        theta = mamlpp(net, **settings).init(key, es.support_x[0])

        def mean_loss(theta, es, progress):
            learner = mamlpp(net, progress=progress, **settings)
            return jax.vmap(learner.loss, in_axes=(None, 0))(theta, es)[0].mean()

        @jax.jit
        def traced(theta, es, step):
            nonlocal compiled
            compiled += 1
            return jax.value_and_grad(mean_loss)(theta, es, step / 100)

        for step in (0, 5, 20, 31, 100):
            close(traced(theta, es, jnp.int32(step)), jax.value_and_grad(mean_loss)(theta, es, step / 100), rtol=1e-6)
        assert compiled == 1


def test_only_the_stage_at_hand_runs(key):
    """The query set passes through the network once a step while every step counts, and once afterwards."""
    seen = []

    def apply(params, x, stats=None):
        if len(x) == 12:
            jax.debug.callback(lambda: seen.append(1))
        return jnp.tanh(x @ params["a"]) @ params["b"], None

    e, net = episode(key, dtype=jnp.float32), smooth_net()._replace(apply=apply)
    theta = mamlpp(net).init(key, e.support_x)
    for progress, passes in ((0.0, 5), (0.5, 1)):
        seen.clear()
        jax.jit(lambda p: mamlpp(net, progress=p).loss(theta, e)[0])(jnp.float32(progress)).block_until_ready()
        jax.effects_barrier()
        assert len(seen) == passes


def test_finite_differences_with_everything_on(key):
    with jax.enable_x64(True):
        e = episode(key)
        learner = mamlpp(smooth_net(), 0.3, 4, remat=True, progress=0.05)
        theta = learner.init(key, e.support_x)
        check_grads(lambda t: learner.loss(t, e)[0], (theta,), 1, modes=["rev"], eps=1e-6)
        plain = mamlpp(smooth_net(), 0.3, 4, progress=0.05)
        close(gradient(learner, theta, e), gradient(plain, theta, e))


def test_images_and_regression(key):
    e = episode(key, shots=1, dtype=jnp.float32, shape=(8, 8, 1))
    learner = mamlpp(models.conv4(3, 4, "support", "stride"), 0.1, 2, progress=0.05)
    theta = learner.init(key, e.support_x)
    assert (
        set(theta["rates"]) == set(theta["net"]) == {"head", *(f"{k}{i}" for k in ("conv", "norm") for i in range(4))}
    )
    loss, metrics = jax.jit(learner.loss)(theta, e)
    assert loss.dtype == metrics["accuracy"].dtype == jnp.float32
    phi = jax.jit(learner.adapt)(theta, e.support_x, e.support_y)
    close(*(learner.predict(theta, phi, x)[:2] for x in (e.query_x, e.query_x[:2])), rtol=1e-4, atol=1e-4)
    x = jax.random.normal(key, (6, 1))
    learner = mamlpp(models.mlp(1, (8,)), 0.01, 2, progress=0.05)
    loss, metrics = learner.loss(learner.init(key, x), Episode(x, jnp.sin(x), x, jnp.sin(x)))
    assert np.isfinite(loss)
    assert set(metrics) == {"mse"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inner_lr": 0.0}, "inner_lr must be above 0"),
        ({"inner_steps": 0}, "inner steps must be at least 1"),
        ({"order": 3}, "order must be 1 or 2"),
        ({"anneal": 1.5}, r"anneal must be in \[0, 1\]"),
        ({"first_order_until": -0.1}, r"first_order_until must be in \[0, 1\]"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        mamlpp(models.mlp(1), **settings)
