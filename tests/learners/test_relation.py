"""The Relation Network against a loop over pairs, and what its moments may see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import Episode, Model, models
from mtl_jax.learners.relation import relation
from mtl_jax.models.relation import Pairs, relation_module

WAYS, SIDE = 3, 4


def map_net(norm="transductive"):
    """One linear layer a pixel, centred by the batch's mean: gives moments under "support" as conv4 does."""

    def init(key, x):
        return {"a": jax.random.normal(key, (x.shape[-1], 5), x.dtype)}

    def apply(params, x, stats=None):
        z = x @ params["a"]
        mean = z.mean((0, 1, 2)) if stats is None else stats
        return jnp.tanh(z - mean), mean if norm == "support" else None

    return Model(init, apply)


def episode(key, dtype=jnp.float32, labels=(0, 2, 1, 1, 0, 2), queries=7):
    k1, k2, k3 = jax.random.split(key, 3)
    y = jnp.array(labels, jnp.int32)
    x = (jax.random.normal(k, (n, SIDE, SIDE, 2), dtype) for k, n in ((k1, len(labels)), (k2, queries)))
    return Episode(next(x), y, next(x), jax.random.randint(k3, (queries,), 0, WAYS), jnp.arange(WAYS, dtype=jnp.int32))


def score(params, pair, moments):
    """One pair's score by JAX's own convolution and pooling; moments are those of the two normalisations."""
    x = pair[None]
    for kernel, norm, (mean, var) in zip(
        (params["conv0"], params["conv1"]["kernel"]), ("norm0", "norm1"), moments, strict=True
    ):
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = params[norm]["scale"] * (x - mean) / jnp.sqrt(var + 1e-5) + params[norm]["shift"]
        x = jax.nn.relu(x.reshape(1, x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max((2, 4)))
    x = jax.nn.relu(x.reshape(-1) @ params["dense0"]["kernel"] + params["dense0"]["bias"])
    return x @ params["dense1"]["kernel"] + params["dense1"]["bias"]


def test_scores_and_loss_equal_a_loop_over_pairs(key):
    with jax.enable_x64(True):
        e, net = episode(key, jnp.float64), map_net("support")
        learner = relation(net, width=3)
        theta = jax.jit(learner.init)(key, e.support_x)
        support, stats = net.apply(theta["net"], e.support_x)
        classes = [sum(support[i] for i in range(6) if int(e.support_y[i]) == k) for k in range(WAYS)]
        moments = relation_module(3, norm="support").apply(
            theta["relation"], Pairs(support, jnp.stack(classes), jnp.ones(WAYS, bool))
        )[1]
        maps = net.apply(theta["net"], e.query_x, stats)[0]
        pair = jax.jit(lambda c, m: score(theta["relation"], jnp.concatenate([c, m], -1), moments)[0])
        want = np.array([[pair(c, m) for c in classes] for m in maps])
        phi = jax.jit(learner.adapt)(theta, e.support_x, e.support_y)
        np.testing.assert_allclose(jax.jit(learner.predict)(theta, phi, e.query_x)[:, :WAYS], want, rtol=1e-9)
        relations = 1 / (1 + np.exp(-want))
        loss, metrics = jax.jit(learner.loss)(theta, e)
        np.testing.assert_allclose(loss, ((relations - np.eye(WAYS)[np.asarray(e.query_y)]) ** 2).mean(), rtol=1e-9)
        np.testing.assert_allclose(metrics["accuracy"], (want.argmax(1) == np.asarray(e.query_y)).mean())


def test_moments_are_of_the_pairs_that_exist(key):
    """The first block's, by numpy; a class without support changes neither them nor any score."""
    with jax.enable_x64(True):
        maps, classes = (jax.random.normal(k, (n, SIDE, SIDE, 2), jnp.float64) for k, n in ((key, 4), (key, 3)))
        module = relation_module(3, norm="support")
        params = module.init(key, Pairs(maps, classes, jnp.ones(3, bool)))
        scores, moments = module.apply(params, Pairs(maps, classes[:2], jnp.ones(2, bool)))
        joined = jnp.stack([jnp.concatenate([c, m], -1) for m in maps for c in classes[:2]])
        x = jax.lax.conv_general_dilated(
            joined, params["conv0"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        np.testing.assert_allclose(moments[0][0], np.mean(x, (0, 1, 2)), rtol=1e-9)
        np.testing.assert_allclose(moments[0][1], np.var(x, (0, 1, 2)), rtol=1e-9)
        more, same = module.apply(params, Pairs(maps, classes, jnp.array([True, True, False])))
        np.testing.assert_allclose(more[:, :2], scores, rtol=1e-9)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), same, moments)


def test_order_of_classes_and_of_support_does_not_matter(key):
    e = episode(key)
    learner = relation(map_net(), width=3)
    theta = jax.jit(learner.init)(key, e.support_x)
    new, order = jnp.array([2, 0, 1]), jnp.array([5, 0, 3, 1, 4, 2])  # label k becomes new[k]

    @jax.jit
    def logits(x, y):
        phi = learner.adapt(theta, x, y)
        return learner.predict(theta, phi, e.query_x)

    plain, moved = logits(e.support_x, e.support_y), logits(e.support_x[order], new[e.support_y][order])
    np.testing.assert_allclose(moved[:, new], plain[:, :3], rtol=1e-4, atol=1e-5)
    assert (plain[:, 3:] == jnp.finfo(jnp.float32).min).all()
    known = relation(map_net(), width=3, ways=WAYS)
    phi = jax.jit(known.adapt)(theta, e.support_x, e.support_y)
    np.testing.assert_allclose(jax.jit(known.predict)(theta, phi, e.query_x), plain[:, :3], rtol=1e-4, atol=1e-5)


def test_by_the_mean_as_many_copies_of_the_support_change_nothing(key):
    once, thrice = (episode(key, labels=labels) for labels in ((0, 1, 2), (0, 1, 2) * 3))
    x = jnp.concatenate([once.support_x] * 3)
    by_sum, by_mean = (relation(map_net(), width=3, combine=how, ways=WAYS) for how in ("sum", "mean"))
    theta = jax.jit(by_sum.init)(key, x)

    def scores(learner, x, y):
        return jax.jit(learner.predict)(theta, jax.jit(learner.adapt)(theta, x, y), once.query_x)

    one = scores(by_sum, once.support_x, once.support_y)
    np.testing.assert_array_equal(scores(by_mean, once.support_x, once.support_y), one)
    np.testing.assert_allclose(scores(by_mean, x, thrice.support_y), one, rtol=1e-4, atol=1e-5)
    assert not np.allclose(scores(by_sum, x, thrice.support_y), one, rtol=1e-2)


def test_by_the_mean_a_class_without_support_never_wins(key):
    e = episode(key, labels=(0, 2, 2))
    learner = relation(map_net(), width=3, combine="mean", ways=WAYS)
    theta = jax.jit(learner.init)(key, e.support_x)
    logits = jax.jit(learner.predict)(theta, jax.jit(learner.adapt)(theta, e.support_x, e.support_y), e.query_x)
    assert np.isfinite(logits).all()
    assert 1 not in logits.argmax(1)


@pytest.mark.parametrize(("norm", "asked", "leak"), [("support", None, False), ("support", "transductive", True)])
def test_under_support_norm_a_query_does_not_see_the_others(key, norm, asked, leak):
    e = episode(key)
    learner = relation(map_net(norm), width=3, norm=asked)
    theta = jax.jit(learner.init)(key, e.support_x)
    phi = learner.adapt(theta, e.support_x, e.support_y)
    together, apart = learner.predict(theta, phi, e.query_x)[:2], learner.predict(theta, phi, e.query_x[:2])
    assert np.allclose(together, apart, rtol=1e-4, atol=1e-5) != leak


@pytest.mark.parametrize("downsample", ["pool", "mean", "stride"])
def test_conv4_gives_maps_of_a_quarter_of_the_side(key, downsample):
    net = models.conv4(None, 6, "support", downsample, maps=True)
    x = jax.ShapeDtypeStruct((2, 28, 28, 1), "float32")
    params = jax.eval_shape(net.init, key, x)
    maps, stats = jax.eval_shape(net.apply, params, x)
    assert (maps.shape, len(stats), "head" in params) == ((2, 7, 7, 6), 4, False)


def test_every_gradient_is_finite_and_there(key):
    e = episode(key)
    learner = relation(map_net(), width=3)
    theta = jax.jit(learner.init)(key, e.support_x)
    grads, metrics = jax.jit(jax.grad(learner.loss, has_aux=True))(theta, e)
    assert set(metrics) == {"accuracy"}
    for g in jax.tree.leaves(grads):
        assert np.isfinite(g).all()
        assert np.abs(g).max() > 0


def test_a_module_of_ones_own(key):
    """Minus the squared distance as the relation: the nearest class map wins."""

    def apply(params, pairs, stats=None):
        apart = jnp.square(pairs.maps[:, None] - pairs.classes).sum((2, 3, 4))
        return params["gain"] * -apart, None

    e = episode(key, labels=(0, 1, 2))
    learner = relation(map_net(), Model(lambda key, pairs: {"gain": jnp.ones(())}, apply))
    theta = jax.jit(learner.init)(key, e.support_x)
    phi = learner.adapt(theta, e.support_x, e.support_y)
    assert learner.predict(theta, phi, e.support_x).argmax(1).tolist() == [0, 1, 2]


def test_bad_settings_are_refused(key):
    with pytest.raises(ValueError, match="unknown norm 'batch'"):
        relation(map_net(), norm="batch")
    with pytest.raises(ValueError, match="feature maps"):
        relation(models.mlp(None, (4,))).init(key, jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="ways=None with maps=True"):
        models.conv4(5, maps=True)
    with pytest.raises(ValueError, match="at least 4x4"):
        models.conv4(None, 4, maps=True).apply({}, jnp.zeros((1, 3, 3, 1)))
