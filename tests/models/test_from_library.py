"""Networks of other libraries keep to what a Model promises, and every method takes them."""

import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mtl_jax import ClassPool, Episode, evaluate, learners, models, train
from mtl_jax.data import sources
from mtl_jax.run import checkpoint
from mtl_jax.run.optimizer import meta_optimizer

eqx = pytest.importorskip("equinox", reason="the extra [equinox] is not installed")
WAYS, CLASSES, WORDS = 3, 6, 11
INPUTS = ("images", "features", "tokens")
METHODS = {
    "maml": {"inner_steps": 1}, "fomaml": {"inner_steps": 1}, "anil": {"inner_steps": 1}, "boil": {"inner_steps": 1},
    "meta_sgd": {"inner_steps": 1}, "mamlpp": {"inner_steps": 1}, "proto_maml": {"inner_steps": 1},
    "imaml": {"inner_steps": 1}, "reptile": {"inner_steps": 1}, "protonet": {}, "matching": {}, "r2d2": {},
    "lstm": {"inner_steps": 1, "hidden": 2}, "mtl": {"inner_steps": 1, "transfer": "shift"},
    "finetune": {"inner_steps": 1, "classes": CLASSES}, "baseline_pp": {"inner_steps": 1, "classes": CLASSES},
}  # fmt: skip
HEADLESS = ("proto_maml", "protonet", "matching", "r2d2", "finetune", "baseline_pp")


class Linen(nn.Module):
    kind: str
    ways: int | None

    @nn.compact
    def __call__(self, x, train=True):
        if self.kind == "images":
            x = nn.BatchNorm(use_running_average=not train)(nn.Conv(3, (3, 3))(x))
        x = nn.Embed(WORDS, 4)(x).mean(1) if self.kind == "tokens" else x.reshape(len(x), -1)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(5)(x)))
        return x if self.ways is None else nn.Dense(self.ways, name="fc")(x)


class NNX(nnx.Module):
    def __init__(self, rngs, kind, ways):
        self.kind = kind
        self.embed = nnx.Embed(WORDS, 4, rngs=rngs) if kind == "tokens" else None
        first = nnx.Linear(4 if kind == "tokens" else 48, 5, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.layers = nnx.List([first] if ways is None else [first, nnx.Linear(5, ways, rngs=rngs)])

    def __call__(self, x):
        x = self.embed(x).mean(1) if self.kind == "tokens" else x.reshape(len(x), -1)
        x = self.drop(nnx.relu(self.norm(self.layers[0](x))))
        return self.layers[1](x) if len(self.layers) > 1 else x


def equinox_net(kind, ways, key):
    k1, k2, k3 = jax.random.split(key, 3)
    start = [eqx.nn.Lambda(jnp.ravel)]
    if kind == "tokens":
        embed = eqx.nn.Embedding(WORDS, 4, key=k1)
        start = [Words(embed)]
    body = [*start, eqx.nn.Linear(4 if kind == "tokens" else 48, 5, key=k2), eqx.nn.Lambda(jax.nn.relu)]
    return eqx.nn.Sequential([*body, eqx.nn.Dropout(0.5), *([] if ways is None else [eqx.nn.Linear(5, ways, key=k3)])])


class Words(eqx.Module):
    embed: eqx.nn.Embedding

    def __call__(self, x, *, key=None):
        return jax.vmap(self.embed)(x).mean(0)


def plain_net(kind, ways):
    """Two functions, whose body's layers stand in a list."""

    def init(key, x):
        draw = lambda *shape: 0.5 * jax.random.normal(key, shape)  # noqa: E731
        layers = [draw(WORDS, 4), {"w": draw(4, 5), "bias": jnp.zeros(5)}]
        layers = layers if kind == "tokens" else [{"w": draw(48, 5), "bias": jnp.zeros(5)}]
        return {"layers": layers, **({} if ways is None else {"head": {"kernel": draw(5, ways), "bias": draw(ways)}})}

    def apply(params, x, stats=None):
        x = params["layers"][0][x].mean(1) if kind == "tokens" else x.reshape(len(x), -1)
        x = jnp.tanh(x @ params["layers"][-1]["w"] + params["layers"][-1]["bias"])
        return (x @ params["head"]["kernel"] + params["head"]["bias"] if "head" in params else x), None

    return models.Model(init, apply)


def build(library, kind, ways=WAYS):
    return {
        "linen": lambda: models.from_linen(Linen(kind, ways), ways and "fc", norm="transductive"),
        "nnx": lambda: models.from_nnx(lambda rngs: NNX(rngs, kind, ways), ways and "layers/1"),
        "equinox": lambda: models.from_equinox(lambda key: equinox_net(kind, ways, key), ways and "layers/4"),
        "plain": lambda: plain_net(kind, ways),
    }[library]()


LIBRARIES = ("linen", "nnx", "equinox", "plain")


def inputs(kind, key, n=6):
    if kind == "tokens":
        return jax.random.randint(key, (n, 7), 0, WORDS)
    return jax.random.uniform(key, (n, 4, 4, 3) if kind == "images" else (n, 48))


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_head_and_features_are_where_methods_look(library, kind, key):
    net, x = build(library, kind), inputs(kind, key)
    params = jax.jit(net.init)(key, x)
    outputs, stats = net.apply(params, x)
    body = {name: layer for name, layer in params.items() if name != "head"}
    features, _ = net.apply(body, x)
    assert stats is None
    assert {k: v.shape for k, v in params["head"].items()} == {"kernel": (5, WAYS), "bias": (WAYS,)}
    again = features @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(again, outputs, rtol=1e-5, atol=1e-6)
    other = net.init(jax.random.key(1), x)
    assert not np.array_equal(other["head"]["kernel"], params["head"]["kernel"])


def cells():
    """Every method with every library; kinds of inputs in turn, so that each meets every method and every library."""
    for i, method in enumerate(METHODS):
        for j, library in enumerate(LIBRARIES):
            kind = INPUTS[(i + j) % 3]
            yield pytest.param(method, library, kind, id=f"{method}-{library}-{kind}")


@pytest.mark.parametrize(("method", "library", "kind"), list(cells()))
def test_every_method_takes_every_network(method, library, kind, key):
    net = build(library, kind, None if method in HEADLESS else WAYS)
    learner = getattr(learners, method)(net, **METHODS[method])
    labels = jnp.repeat(jnp.arange(WAYS, dtype=jnp.int32), 2)
    x = inputs(kind, key)
    episode = Episode(x, labels, inputs(kind, jax.random.key(1)), labels, jnp.arange(WAYS, dtype=jnp.int32))

    @jax.jit
    def step(key, episode):
        theta = learner.init(key, episode.support_x)
        (value, _), slope = jax.value_and_grad(learner.loss, has_aux=True)(theta, episode)
        phi = learner.adapt(theta, episode.support_x, episode.support_y)
        return value, slope, learner.predict(theta, phi, episode.query_x)

    value, slope, outputs = step(key, episode)
    assert np.isfinite(value)
    assert np.isfinite(outputs).all()
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope))


RATES = {"boil": 1e-2, "reptile": 1e-2, "lstm": 1e-2}  # in so few steps; at this rate anil's network dies
# Ten minutes: by hand, with MTL_JAX_WHOLE_TABLE set.
WHOLE = [(m, library, kind) for m in METHODS for library in LIBRARIES for kind in INPUTS]


@pytest.mark.parametrize(("method", "library", "kind"), WHOLE if "MTL_JAX_WHOLE_TABLE" in os.environ else [])
def test_every_cell_trains_evaluates_saves_and_loads(method, library, kind, key, tmp_path):
    """All 16 x 4 x 3: 50 steps on classes that can be told apart beat chance, and a folder gives them back."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(CLASSES), 10)
    x = np.clip(rng.normal(0.5 + 0.15 * (y[:, None] - 2.5), 0.05, (60, 48)), 0, 1).astype(np.float32)
    x = x.reshape(60, 4, 4, 3) if kind == "images" else x
    if kind == "tokens":
        x = ((y[:, None] + rng.integers(0, 3, (60, 7))) % WORDS).astype(np.int32)
    pool = ClassPool.from_arrays(x, y)
    learner = getattr(learners, method)(build(library, kind, None if method in HEADLESS else WAYS), **METHODS[method])
    go = {"ways": WAYS, "shots": 1, "queries": 3}
    source = sources.class_batches(16) if "classes" in METHODS[method] else None
    rule = meta_optimizer(RATES.get(method, 3e-3), 50)
    run = train(learner, pool, key, steps=50, tasks=2, optimizer=rule, source=source, out=tmp_path / "run", **go)
    like = jax.eval_shape(learner.init, key, jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype))
    theta = checkpoint.load_theta(tmp_path / "run" / "checkpoints", like)
    jax.tree.map(np.testing.assert_array_equal, theta, jax.tree.map(np.asarray, run.theta))
    seen = evaluate(learner, theta, pool, key, episodes=20, **go)
    assert seen.accuracy > 1 / WAYS


def list_net():
    """Two functions whose parameters are a list at the top."""
    return models.Model(lambda key, x: [jax.random.normal(key, (48, WAYS))], lambda p, x, stats=None: (x @ p[0], None))


def test_parameters_that_are_a_list_suit_maml_and_are_refused_in_one_line_by_rates_per_layer(key):
    x, y = inputs("features", key), jnp.repeat(jnp.arange(WAYS, dtype=jnp.int32), 2)
    for learner in (learners.maml(list_net()), learners.mamlpp(list_net(), per_step_rates=False)):
        theta = learner.init(key, x)
        assert np.isfinite(learner.loss(theta, Episode(x, y, x, y))[0])
    with pytest.raises(ValueError, match="not of a list: give the network a dict, or take per_step_rates=False"):
        learners.mamlpp(list_net()).init(key, x)
    with pytest.raises(ValueError, match="the network has no head among its list"):
        learners.anil(list_net()).init(key, x)


def test_mtl_shifts_the_layers_of_a_list_and_starts_at_the_network(key):
    net, x = build("plain", "features"), inputs("features", key)
    learner = learners.mtl(net, inner_steps=1, transfer="shift")
    theta = learner.init(key, x)
    assert theta["shift"]["layers"]["0"]["bias"].shape == (5,)
    theta["shift"]["layers"]["0"]["bias"] += 0.25
    labels = jnp.repeat(jnp.arange(WAYS, dtype=jnp.int32), 2)
    phi = learner.adapt(theta, x, labels)
    moved = phi.params["layers"]
    assert isinstance(moved, list)
    np.testing.assert_array_equal(moved[0]["bias"], theta["frozen"]["layers"][0]["bias"] + 0.25)
    np.testing.assert_array_equal(moved[0]["w"], theta["frozen"]["layers"][0]["w"])


def test_linen_dropout_is_off_and_moments_are_constants(key):
    x = inputs("images", key)
    module = Linen("images", WAYS)
    stored = module.init({"params": key, "dropout": key}, x)
    moments = jax.tree.map(lambda a: a + 0.5, stored["batch_stats"])
    variables = {"params": stored["params"], "batch_stats": moments}
    net = models.from_linen(module, "fc", variables=variables)
    params = net.init(key, x)
    want = module.apply(variables, x, train=False)
    np.testing.assert_allclose(net.apply(params, x)[0], want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.apply(params, x[:1])[0], want[:1], rtol=1e-5, atol=1e-6)  # by itself
    batch = models.from_linen(module, "fc", "transductive", variables)
    assert not np.allclose(batch.apply(params, x)[0], want, atol=1e-3)


def test_nnx_copies_an_instance_and_leaves_it_as_it_was(key):
    module, x = NNX(nnx.Rngs(0), "features", WAYS), inputs("features", key)
    before = jax.tree.leaves(nnx.state(module, nnx.Param))
    module.norm.mean[...] = jnp.full(5, 0.3)
    net = models.from_nnx(module, "layers/1")
    params = net.init(key, x)
    outputs, _ = net.apply(params, x)
    assert not module.drop.deterministic
    module.eval()
    np.testing.assert_allclose(outputs, module(x), rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.leaves(nnx.state(module, nnx.Param)))
    batch = models.from_nnx(module, "layers/1", "transductive")
    assert not np.allclose(batch.apply(params, x)[0], outputs, atol=1e-3)


def test_equinox_with_state_keeps_its_moments(key):
    def make(key):
        layers = [eqx.nn.Linear(48, 5, key=key), eqx.nn.BatchNorm(5, "batch", mode="batch")]
        return eqx.nn.Sequential([*layers, eqx.nn.Linear(5, WAYS, key=key)])

    made, x = eqx.nn.make_with_state(make)(key), inputs("features", key)
    net = models.from_equinox(made, "layers/2")
    params = net.init(key, x)
    outputs, _ = net.apply(params, x)
    np.testing.assert_allclose(net.apply(params, x[:1])[0], outputs[:1], rtol=1e-5, atol=1e-6)
    assert outputs.shape == (6, WAYS)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: models.from_linen(Linen("images", WAYS), "fc"), "no stored moments"),
        (lambda: models.from_linen(Linen("features", WAYS), "top"), "'top' is no linear layer.*Dense_0, fc"),
        (lambda: models.from_linen(Linen("features", WAYS), norm="batch"), "unknown norm 'batch'"),
        (lambda: models.from_nnx(3), "from_nnx wants an nnx module"),
        (lambda: models.from_nnx(NNX(nnx.Rngs(0), "features", WAYS), "layers/0"), "not the last step"),
        (lambda: models.from_nnx(NNX(nnx.Rngs(0), "features", WAYS), "norm"), "'norm' is no linear layer"),
        (lambda: models.from_equinox(3), "from_equinox wants a module"),
        (lambda: models.from_equinox(eqx.nn.MLP(48, 3, 4, 1, key=jax.random.key(0)), "layers/0"), "not the last step"),
        (
            lambda: models.from_equinox(
                eqx.nn.MLP(48, 3, 4, 1, final_activation=jnp.tanh, key=jax.random.key(0)), "layers/1"
            ),
            "not the last step",
        ),
    ],
)
def test_what_cannot_be_is_said_early_in_one_line(make, words, key):
    kind = "images" if words == "no stored moments" else "features"
    with pytest.raises(ValueError, match=words) as error:
        make().init(key, inputs(kind, key))
    assert "\n" not in str(error.value)
