"""The inner loop's two ways through an inner gradient: one meta-gradient, and memory that steps do not fill."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import Episode, learners, models
from mtl_jax.data.sinusoid import SinusoidPool, sample_sinusoid
from mtl_jax.learners.inner import inner_loop, mixed_grad


def test_mixed_grad_is_grad_and_so_are_its_derivatives_also_in_what_the_loss_closes_over(key):
    with jax.enable_x64(True):
        x, y = jax.random.normal(key, (6, 3), jnp.float64), jnp.arange(6, dtype=jnp.int32) % 2
        w, a = jnp.linspace(-1, 1, 6).reshape(3, 2), jnp.array([0.7, -1.3, 2.0])

        def through(gradient):
            def outer(w, a):
                def loss(w):  # a is the outer parameter, y are integers
                    logits = jnp.tanh(x * a) @ w
                    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

                return (jnp.sin(gradient(loss)(w)) ** 2).sum()

            return jax.value_and_grad(outer, (0, 1))(w, a)

        got, wanted = through(mixed_grad), through(jax.grad)
        jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-12), got, wanted)
        assert float(jnp.abs(wanted[1][1]).min()) > 0


@pytest.mark.parametrize("rule", [optax.sgd(0.1), optax.adam(0.01, eps_root=1e-8)], ids=["sgd", "adam"])
def test_mixed_and_reverse_give_one_meta_gradient(key, rule):
    with jax.enable_x64(True):
        episode = jax.tree.map(lambda a: a.astype(jnp.float64), sample_sinusoid(key, SinusoidPool()))

        def gradient(mode):
            learner = learners.maml(models.mlp(1), inner_steps=3, inner_optimizer=rule, inner_grad=mode)
            theta = learner.init(key, episode.support_x)
            return jax.grad(lambda t: learner.loss(t, episode)[0])(theta)

        jax.tree.map(
            lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-12), *map(gradient, ("mixed", "reverse"))
        )


@pytest.mark.parametrize("name", ["maml", "anil", "mtl"])
def test_mixed_under_jit_and_vmap_with_labels_that_are_drawn_there(key, name, monkeypatch):
    episodes = jax.tree.map(lambda *a: jnp.stack(a), *(small_episode(k) for k in jax.random.split(key, 3)))
    net = models.conv4(3, 4, downsample="stride")

    def gradient(steps_from):
        monkeypatch.setattr("mtl_jax.learners.inner.MIXED_FROM", steps_from)
        learner = getattr(learners, name)(net, 0.1, 3)
        theta = learner.init(jax.random.key(1), episodes.support_x[0])
        return jax.jit(jax.grad(lambda t: jax.vmap(lambda e: learner.loss(t, e)[0])(episodes).mean()))(theta)

    close = partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6)
    jax.tree.map(close, gradient(2), gradient(4))


def small_episode(key):
    x_key, y_key = jax.random.split(key)
    y = jax.random.permutation(y_key, jnp.repeat(jnp.arange(3, dtype=jnp.int32), 2))
    x = jax.random.normal(x_key, (2, 6, 16, 16, 1))
    return Episode(x[0], y, x[1], y)


def test_mixed_keeps_of_each_step_the_weights_alone_and_auto_chooses_it_for_many_steps(key):
    x, w = jnp.ones((500, 8)), jnp.ones((8, 1))  # 500 activations a step, 8 weights

    def kept(mode, steps):
        def outer(w):
            phi, _ = inner_loop(lambda w: jnp.tanh(x @ w).mean(), w, optax.sgd(0.1), steps, inner_grad=mode)
            return phi.sum()

        scans = [e for e in jax.make_jaxpr(jax.grad(outer))(w).eqns if e.primitive.name == "scan"]
        return max((v.aval.size for e in scans for v in e.outvars if v.aval.shape[:1] == (steps,)), default=0)

    assert kept("mixed", 12) == kept("auto", 12) == 12 * 8
    assert kept("reverse", 12) == 12 * 500
    assert kept("auto", 3) == 3 * 500
    with pytest.raises(ValueError, match="unknown inner_grad 'forward': choose one of auto, reverse, mixed"):
        kept("forward", 2)


BY_LAYER = {
    "multi_transform": optax.multi_transform(
        {"step": optax.sgd(0.1), "stay": optax.set_to_zero()},
        lambda p: {k: jax.tree.map(lambda _, k=k: "step" if k == "head" else "stay", v) for k, v in p.items()},
    ),
    "masked": optax.masked(optax.sgd(0.1), lambda p: {k: k == "head" for k in p}),
    "clip": optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1)),
    "muon": optax.contrib.muon(0.01),
    "rmsprop": optax.rmsprop(0.01),
}


@pytest.mark.parametrize("name", BY_LAYER)
def test_rules_by_layer_and_of_whole_trees_are_taken_and_have_a_finite_meta_gradient(key, name):
    net, task = models.mlp(3, (6,)), small_episode(key)
    learner = learners.maml(net, inner_steps=2, inner_optimizer=BY_LAYER[name])
    theta = learner.init(key, task.support_x)
    theta["dense0"]["bias"] = theta["dense0"]["bias"].at[0].set(-1e3)  # a dead unit
    grads = jax.jit(jax.grad(lambda t: learner.loss(t, task)[0]))(theta)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    phi = learner.adapt(theta, task.support_x, task.support_y).params
    assert not np.array_equal(phi["head"]["kernel"], theta["head"]["kernel"])
    if name == "multi_transform":
        jax.tree.map(np.testing.assert_array_equal, phi["dense0"], theta["dense0"])


@pytest.mark.parametrize("name", ["maml", "anil", "boil", "meta_sgd", "mamlpp", "mtl", "proto_maml"])
def test_every_method_of_order_2_refuses_adam_without_eps_root(key, name):
    task = small_episode(key)
    net = models.conv4(None if name == "proto_maml" else 3, 2, downsample="stride")
    learner = getattr(learners, name)(net, inner_optimizer=optax.adam(0.01))
    theta = jax.eval_shape(learner.init, key, task.support_x)
    with pytest.raises(ValueError, match="eps_root"):
        jax.eval_shape(learner.loss, theta, task)


@pytest.mark.parametrize("rule", [optax.adam(0.1), optax.adafactor(0.1)])
def test_what_is_refused_is_not_finite_with_a_dead_unit(key, rule):
    """The refusal is no superstition: the meta-gradient is NaN where a layer's ReLUs pass nothing."""
    net, task = models.mlp(3, (6,)), small_episode(key)
    theta = net.init(key, task.support_x)
    theta["dense0"]["bias"] = theta["dense0"]["bias"].at[:].set(-1e3)

    def loss(params):
        return optax.softmax_cross_entropy_with_integer_labels(
            net.apply(params, task.support_x)[0], task.support_y
        ).mean()

    grads = jax.jit(jax.grad(lambda p: loss(inner_loop(loss, p, rule, 2)[0])))(theta)
    assert any(jnp.isnan(g).any() for g in jax.tree.leaves(grads))
    with pytest.raises(ValueError, match="no derivative where a gradient is 0"):
        jax.eval_shape(learners.maml(net, inner_optimizer=rule).loss, theta, task)


def test_adam_is_refused_at_order_2_alone_and_while_tracing(key):
    task, net = small_episode(key), models.mlp(3, (6,))
    plain, given = optax.adam(0.01), optax.adam(0.01, eps_root=1e-8)
    theta = net.init(key, task.support_x)
    with pytest.raises(ValueError, match=r"no derivative where a gradient is 0.*eps_root"):
        jax.eval_shape(learners.maml(net, inner_optimizer=plain).loss, theta, task)
    for learner in (learners.fomaml(net, inner_optimizer=plain), learners.maml(net, inner_optimizer=given)):
        assert jax.eval_shape(learner.loss, theta, task)[0].shape == ()


def test_a_line_search_sees_the_loss_at_order_1_and_is_refused_at_order_2(key):
    task, net = small_episode(key), models.mlp(3, (6,))
    search = optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(15))
    theta = net.init(key, task.support_x)
    learner = learners.fomaml(net, inner_steps=5, inner_optimizer=search)
    phi = learner.adapt(theta, task.support_x, task.support_y).params

    def loss(p):
        return optax.softmax_cross_entropy_with_integer_labels(net.apply(p, task.support_x)[0], task.support_y).mean()

    assert loss(phi) < 0.7 * loss(theta)
    for rule in (search, optax.lbfgs()):
        learner = learners.fomaml(net, inner_steps=2, inner_optimizer=rule)
        grads = jax.jit(jax.grad(lambda t, of=learner: of.loss(t, task)[0]))(theta)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    with pytest.raises(ValueError, match="no reverse derivative: take order=1"):
        jax.eval_shape(learners.maml(net, inner_optimizer=search).loss, theta, task)
