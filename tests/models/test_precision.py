import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import learners, models
from mtl_jax.models import layers
from mtl_jax.types import Episode


def cosine(a, b):
    a, b = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    return float(a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b)))


@pytest.mark.parametrize("norm", ["transductive", "support", "none"])
@pytest.mark.parametrize("build", [models.conv4, models.resnet12])
def test_parameters_moments_and_outputs_stay_float32(key, build, norm):
    net = build(3, norm=norm, **({"width": 4} if build is models.conv4 else {"widths": (4, 4, 4, 4)}))
    half, x = models.in_bfloat16(net), jax.random.uniform(key, (6, 16, 16, 1))
    params = half.init(key, x)
    out, stats = half.apply(params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, out, stats))} == {jnp.dtype("float32")}
    want = net.apply(params, x)[0]
    assert not np.array_equal(out, want)  # it is rounded
    scale = jnp.abs(want).max()
    np.testing.assert_allclose(out / scale, want / scale, atol=0.1)
    again = half.apply(params, x, stats)[0]  # moments given are moments used
    np.testing.assert_allclose(again / scale, out / scale, atol=0.02)


def test_its_products_are_bfloat16(key):
    net = models.in_bfloat16(models.conv4(3, 4))
    x = jax.random.uniform(key, (6, 16, 16, 3))
    params = net.init(key, x)
    text = jax.jit(jax.grad(lambda p: net.apply(p, x)[0].sum())).lower(params).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) >= 8
    assert sum("bf16" in line for line in products) >= 8


def test_meta_gradients_are_float32_and_point_where_those_of_float32_do(key):
    labels = jnp.repeat(jnp.arange(3, dtype=jnp.int32), 2)
    x = jax.random.uniform(key, (2, 6, 16, 16, 1))
    episode = Episode(x[0], labels, x[1], labels)
    net = models.conv4(3, 4, downsample="stride")
    grads = []
    for each in (net, models.in_bfloat16(net)):
        learner = learners.maml(each, inner_lr=0.1, inner_steps=1)
        theta = learner.init(key, x[0])
        grads.append(jax.jit(jax.grad(lambda t, learner=learner: learner.loss(t, episode)[0]))(theta))
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    assert cosine(*grads) > 0.95


@pytest.mark.parametrize("name", ["maml", "fomaml", "boil", "meta_sgd", "mamlpp", "imaml", "reptile", "proto_maml"])
def test_several_steps_through_it_are_warned_of(name):
    ways = None if name == "proto_maml" else 3
    half = models.in_bfloat16(models.conv4(ways, 4))
    with pytest.warns(UserWarning, match="2 inner steps through a network in bfloat16"):
        getattr(learners, name)(half, inner_steps=2)
    getattr(learners, name)(half, inner_steps=1)
    getattr(learners, name)(models.conv4(ways, 4), inner_steps=2)


def test_normalisation_and_head_are_float32(key):
    """Far from zero 8 bits would leave no variance; the logits carry more bits than bfloat16 has."""
    x = (100 + jax.random.normal(key, (20, 6, 6, 4))).astype(jnp.bfloat16)
    norm = layers.Norm("transductive")
    variables = {"params": {"scale": jnp.ones(4), "shift": jnp.zeros(4)}}
    wide = np.asarray(x, np.float64)
    want = (wide - wide.mean((0, 1, 2))) / wide.std((0, 1, 2))
    np.testing.assert_allclose(norm.apply(variables, x, None)[0].astype(jnp.float32), want, atol=0.02)
    half = models.in_bfloat16(models.conv4(3, 4))
    images = jax.random.uniform(key, (6, 16, 16, 1))
    out = half.apply(half.init(key, images), images)[0]
    assert not np.array_equal(out, out.astype(jnp.bfloat16).astype(jnp.float32))
