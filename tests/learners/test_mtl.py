"""Meta-transfer: exact at scale 1 and shift 0, frozen where it says so, and cheap inside."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from mtl_jax import ClassPool, Episode, Model, learners, models, train
from mtl_jax.app.build import build_learner
from mtl_jax.app.cost import count_flops
from mtl_jax.app.methods import change, resolve_settings


def episode(key, ways=3, shots=2, queries=3, dtype=jnp.float32, side=16):
    k1, k2 = jax.random.split(key)
    y = jnp.arange(ways, dtype=jnp.int32)
    x = [jax.random.uniform(k, (ways * n, side, side, 1), dtype) for k, n in ((k1, shots), (k2, queries))]
    return Episode(x[0], jnp.repeat(y, shots), x[1], jnp.repeat(y, queries), y)


def net():
    return models.resnet12(3, (4, 4, 4, 6))


def moved(theta):
    """theta with scales and shifts that are not those of the start."""
    parts = {k: v for k, v in theta.items() if k in ("scale", "shift")}
    return theta | jax.tree.map(lambda a: a + 0.1 * jnp.sin(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), parts)


def test_the_start_is_exactly_the_frozen_network(key):
    e = episode(key)
    theta = learners.mtl(net()).init(key, e.support_x)
    assert set(theta) == {"frozen", "scale", "shift", "head"}
    assert all((s == 1).all() for s in jax.tree.leaves(theta["scale"]))
    learner = learners.mtl(net(), 1e-30, 1)  # a step too small to show
    got = learner.predict(theta, learner.adapt(theta, e.support_x, e.support_y), e.query_x)
    want = net().apply({**theta["frozen"], "head": theta["head"]}, e.query_x)[0]
    np.testing.assert_array_equal(got, want)


def test_scales_are_of_channel_pairs_and_spare_the_skip(key):
    theta = learners.mtl(net()).init(key, episode(key).support_x)
    block = theta["scale"]["block1"]
    assert {k: v["kernel"].shape for k, v in block.items()} == dict.fromkeys(("conv0", "conv1", "conv2"), (4, 4))
    assert set(theta["shift"]["block1"]) == {"norm0", "norm1", "norm2", "skip_norm"}


def test_effective_weights_are_the_scaled_and_shifted_ones(key):
    learner, e = learners.mtl(net()), episode(key)
    theta = moved(learner.init(key, e.support_x))
    params = learner.adapt(theta, e.support_x, e.support_y).params
    frozen = theta["frozen"]["block2"]
    scale, shift = theta["scale"]["block2"]["conv1"]["kernel"], theta["shift"]["block2"]["norm1"]["shift"]
    np.testing.assert_array_equal(params["block2"]["conv1"]["kernel"], frozen["conv1"]["kernel"] * scale)
    np.testing.assert_array_equal(params["block2"]["norm1"]["shift"], frozen["norm1"]["shift"] + shift)
    np.testing.assert_array_equal(params["block2"]["skip"]["kernel"], frozen["skip"]["kernel"])


def test_frozen_weights_get_no_gradient_and_do_not_move_under_weight_decay(key):
    rng = np.random.default_rng(0)
    pool = ClassPool.from_arrays(rng.uniform(0, 1, (40, 16, 16, 1)), np.repeat(np.arange(4), 10))
    learner, e = learners.mtl(net(), inner_steps=2), episode(key)
    theta = learner.init(key, e.support_x)
    grads = jax.jit(jax.grad(lambda t: learner.loss(t, e)[0]))(theta)
    assert all((g == 0).all() for g in jax.tree.leaves(grads["frozen"]))
    for part in ("scale", "shift", "head"):
        assert optax.tree.norm(grads[part]) > 0
    rule = optax.adamw(1e-2, weight_decay=0.5)
    size = {"ways": 3, "shots": 1, "queries": 2, "tasks": 2}
    run = train(learner, pool, key, steps=3, optimizer=rule, theta=theta, **size)
    jax.tree.map(np.testing.assert_array_equal, run.theta["frozen"], theta["frozen"])
    assert not np.array_equal(run.theta["scale"]["block0"]["conv1"]["kernel"], np.ones((4, 4)))


def test_a_hundred_inner_steps_cost_hardly_more_than_one(key):
    e = episode(key)
    flops = []
    for steps in (1, 100):
        learner = learners.mtl(net(), inner_steps=steps)
        theta = learner.init(key, e.support_x)
        flops.append(count_flops(jax.make_jaxpr(jax.grad(lambda t, f=learner.loss: f(t, e)[0]))(theta).jaxpr))
    assert flops[1] < 1.2 * flops[0]


@pytest.mark.parametrize(
    ("transfer", "parts"),
    [
        ("scale", {"frozen", "scale", "head"}),
        ("shift", {"frozen", "shift", "head"}),
        ("film", {"frozen", "scale", "shift", "head"}),
        ("adapters", {"frozen", "adapters", "head"}),
        ("full", {"body", "head"}),
        ("none", {"frozen", "head"}),
    ],
)
def test_the_ablations_learn_what_their_name_says(key, transfer, parts):
    learner, e = learners.mtl(models.conv4(3, 4), inner_steps=2, transfer=transfer), episode(key)
    theta = learner.init(key, e.support_x)
    assert set(theta) == parts
    if transfer == "film":
        assert {k: v["scale"].shape for k, v in theta["scale"].items()} == {f"norm{i}": (4,) for i in range(4)}
    grads = jax.grad(lambda t: learner.loss(t, e)[0])(theta)
    for part in parts - {"frozen"}:
        assert optax.tree.norm(grads[part]) > 0


def smooth_net():
    """A convolution and tanh: every derivative exists, so that finite differences mean something."""

    def init(key, x):
        k1, k2 = jax.random.split(key)
        layer = {"kernel": jax.random.normal(k1, (3, 3, 1, 4), x.dtype), "bias": jnp.zeros(4, x.dtype)}
        return {
            "conv": layer,
            "head": {"kernel": jax.random.normal(k2, (4, 3), x.dtype), "bias": jnp.zeros(3, x.dtype)},
        }

    def apply(params, x, stats=None):
        y = models.layers.convolve(x, params["conv"]["kernel"]) + params["conv"]["bias"]
        y = jnp.tanh(y).mean((1, 2))
        return (y @ params["head"]["kernel"] + params["head"]["bias"] if "head" in params else y), None

    return Model(init, apply)


def test_finite_differences_through_scale_shift_and_head(key):
    with jax.enable_x64(True):
        e = episode(key, dtype=jnp.float64, side=4)
        first, second = (learners.mtl(smooth_net(), 0.3, 5, order) for order in (1, 2))
        theta = second.init(key, e.support_x)
        free = moved({k: v for k, v in theta.items() if k != "frozen"})
        loss = lambda t, of=second: of.loss({**t, "frozen": theta["frozen"]}, e)[0]  # noqa: E731
        check_grads(loss, (free,), order=1, modes=["rev"], rtol=1e-5)
        exact, cheap = (jax.grad(lambda t, of=of: loss(t, of))(free) for of in (second, first))
        assert optax.tree.norm(jax.tree.map(jnp.subtract, exact, cheap)) > 1e-3 * optax.tree.norm(exact)


def test_adapters_are_convolutions_beside_and_start_as_the_frozen_network(key):
    e = episode(key)
    learner, alone = (learners.mtl(net(), inner_steps=2, transfer=transfer) for transfer in ("adapters", "none"))
    theta = learner.init(key, e.support_x)
    adapters = theta["adapters"]["block1"]
    assert {k: v["kernel"].shape for k, v in adapters.items()} == dict.fromkeys(
        ("conv0", "conv1", "conv2", "skip"), (4, 4)
    )
    start = learner.adapt(theta, e.support_x, e.support_y)
    want = alone.adapt({k: theta[k] for k in ("frozen", "head")}, e.support_x, e.support_y)
    jax.tree.map(np.testing.assert_array_equal, start.params, want.params)
    moved = theta | {"adapters": jax.tree.map(lambda a: a + 0.3, theta["adapters"])}
    centre = np.zeros((3, 3, 4, 4))
    centre[1, 1] = 0.3
    kernel = learner.adapt(moved, e.support_x, e.support_y).params["block1"]["conv1"]["kernel"]
    np.testing.assert_allclose(kernel - theta["frozen"]["block1"]["conv1"]["kernel"], centre, atol=1e-6)


@pytest.mark.parametrize(
    ("transfer", "shapes"),
    [
        ("scale_shift", {("scale", "depthwise/kernel"): (1, 1152)}),
        ("film", {("scale", f"{layer}/scale"): (c,) for layer, c in (("expand", 1152), ("project", 320))}),
        ("adapters", {("adapters", "expand/kernel"): (192, 1152), ("adapters", "depthwise/kernel"): (1, 1152)}),
    ],
)
def test_every_transfer_finds_its_parts_past_a_backbones_block(key, transfer, shapes):
    upper = models.efficientnet("lite0", 3, after=14)
    maps = jax.random.uniform(key, (6, 2, 2, 192))
    e = Episode(maps, jnp.arange(6) % 3, maps, jnp.arange(6) % 3, jnp.arange(3))
    learner = learners.mtl(upper, inner_steps=1, transfer=transfer)
    theta = learner.init(key, maps)
    for (part, place), shape in shapes.items():
        layer, leaf = place.split("/")
        assert theta[part]["block15"][layer][leaf].shape == shape
    if transfer != "adapters":
        assert {*theta["shift"]["block15"]} == {"expand", "depthwise", "project"}
    grads = jax.grad(lambda t: learner.loss(t, e)[0])(theta)
    for part in {*theta} - {"frozen"}:
        assert optax.tree.norm(grads[part]) > 0


@pytest.mark.parametrize("transfer", ["scale_shift", "scale", "film"])
def test_a_network_with_nothing_to_scale_is_refused(key, transfer):
    with pytest.raises(ValueError, match=f"transfer '{transfer}' finds nothing to scale"):
        learners.mtl(models.mlp(3, (4,)), transfer=transfer).init(key, jnp.ones((3, 2)))


def test_a_network_without_convolutions_has_no_adapters(key):
    with pytest.raises(ValueError, match="transfer 'adapters' finds nothing to stand beside"):
        learners.mtl(models.mlp(3, (4,)), transfer="adapters").init(key, jnp.ones((3, 2)))


def test_a_transfer_of_another_name_is_refused():
    with pytest.raises(ValueError, match="unknown transfer 'shfit': choose one of scale_shift, scale"):
        learners.mtl(net(), transfer="shfit")


def test_the_command_lines_settings_reach_the_learner(key):
    config = resolve_settings({"learner": "mtl", "width": 4, "ways": 3, "transfer": "film"})
    x = jax.ShapeDtypeStruct((1, 16, 16, 1), "float32")
    theta = jax.eval_shape(build_learner(config).init, key, x)
    assert {leaf.ndim for leaf in jax.tree.leaves(theta["scale"])} == {1}  # a factor per channel, not per pair of them
    default = jax.eval_shape(build_learner(change(config, transfer="scale_shift")).init, key, x)
    assert {leaf.ndim for leaf in jax.tree.leaves(default["scale"])} == {2}
