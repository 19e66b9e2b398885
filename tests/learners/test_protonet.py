import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import Episode, learners, models
from mtl_jax.learners.protonet import class_means, cosine, squared_euclidean


def episode(key, ways=4, shots=3, queries=2):
    k1, k2, k3 = jax.random.split(key, 3)
    y = jax.random.permutation(k3, jnp.repeat(jnp.arange(ways, dtype=jnp.int32), shots))
    x = jax.random.uniform(k1, (ways * shots, 16, 16, 1))
    q = jax.random.uniform(k2, (ways * queries, 16, 16, 1))
    return Episode(x, y, q, jnp.repeat(jnp.arange(ways, dtype=jnp.int32), queries), jnp.arange(ways, dtype=jnp.int32))


def test_prototypes_are_numpy_class_means(key):
    z = np.asarray(jax.random.normal(key, (12, 5)))
    y = np.array([2, 0, 1, 1, 2, 0, 0, 0, 1, 2, 2, 2])
    means, present = class_means(jnp.asarray(z), jnp.asarray(y), 4)
    for k in range(3):
        np.testing.assert_allclose(means[k], z[y == k].mean(0), rtol=1e-5)
    assert present.tolist() == [True, True, True, False]


def test_distances_equal_numpy(key):
    a, b = np.asarray(jax.random.normal(key, (7, 5))), np.asarray(jax.random.normal(key, (3, 5))) + 1
    np.testing.assert_allclose(squared_euclidean(a, b), ((a[:, None] - b) ** 2).sum(-1), rtol=1e-4, atol=1e-5)
    dots = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(cosine(a, b), 1 - dots, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", lambda x, c: jnp.abs(x[:, None] - c).sum(-1)])
def test_prediction_is_the_nearest_prototype(key, distance):
    e = episode(key)
    net = models.conv4(None, 4, "support")
    learner = learners.protonet(net, distance)
    theta = learner.init(key, e.support_x)
    phi = learner.adapt(theta, e.support_x, e.support_y)
    z, stats = net.apply(theta, e.support_x)
    q = np.asarray(net.apply(theta, e.query_x, stats)[0])
    y = np.asarray(e.support_y)
    centres = np.stack([np.asarray(z)[y == k].mean(0) for k in range(4)])
    named = {"euclidean": squared_euclidean, "cosine": cosine}
    d = np.asarray((distance if callable(distance) else named[distance])(q, centres))
    logits = learner.predict(theta, phi, e.query_x)
    assert logits.shape == (8, 4)
    np.testing.assert_array_equal(logits.argmax(-1), d.argmin(-1))


def test_traced_labels_give_the_same_answer_with_spare_slots(key):
    e = episode(key)
    learner = learners.protonet(models.conv4(None, 4))
    theta = learner.init(key, e.support_x)

    def logits(x, y, q):
        return learner.predict(theta, learner.adapt(theta, x, y), q)

    eager, traced = (f(e.support_x, e.support_y, e.query_x) for f in (logits, jax.jit(logits)))
    np.testing.assert_allclose(traced[:, :4], eager, rtol=1e-4, atol=1e-4)
    assert traced.shape == (8, 12)
    assert (traced[:, 4:] < -1e8).all()


def test_gradient_equals_finite_differences(key):
    with jax.enable_x64(True):
        e = episode(key)
        x = jax.tree.map(lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, e)
        learner = learners.protonet(models.mlp(None, (4,)))
        theta = jax.tree.map(lambda a: a.astype(jnp.float64), learner.init(key, x.support_x))
        flat, back = jax.flatten_util.ravel_pytree(theta)
        f = jax.jit(lambda v: learner.loss(back(v), x)[0])
        g = jax.grad(f)(flat)
        direction = jax.random.normal(key, flat.shape, flat.dtype)
        numeric = (f(flat + 1e-6 * direction) - f(flat - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(g @ direction, numeric, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"), [({"distance": "l3"}, "unknown distance"), ({"temperature": 0.0}, "above 0")]
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        learners.protonet(models.conv4(None, 4), **settings)
