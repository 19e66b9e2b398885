"""Every method under wrong ways, wrong labels, blank pictures and features of any size: one line, or a right number."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import Episode, Model, learners, models
from mtl_jax.learners.checks import check_targets
from mtl_jax.learners.objective import never_absent, objective, query_objective

HEAD = ("maml", "fomaml", "anil", "boil", "meta_sgd", "mamlpp", "imaml", "reptile", "lstm", "mtl")
METRIC = (
    "protonet",
    "proto_maml",
    "matching",
    "relation",
    "r2d2",
    "meta_baseline",
    "feat",
    "metaoptnet",
    "simple_cnaps",
    "pmf",
)
TRANSFER = ("finetune", "baseline_pp", "simpleshot", "rfs", "tsa", "tim", "bdcspn")
STEPS = {"inner_steps": 2}


def linear_net(ways):
    """x itself as the features, then a linear head: the features have the scale that the test gives."""

    def init(key, x):
        d = x[0].size
        params = {"body": {"gain": jnp.ones(d, x.dtype)}}
        head = {"kernel": 0.01 * jax.random.normal(key, (d, ways or 1), x.dtype), "bias": jnp.zeros(ways or 1, x.dtype)}
        return params | ({"head": head} if ways else {})

    def apply(params, x, stats=None):
        z = x.reshape(len(x), -1) * params["body"]["gain"]
        return (z @ params["head"]["kernel"] + params["head"]["bias"] if "head" in params else z), None

    return Model(init, apply)


def build(name, ways=3, pictures=False, **given):
    """The method on a small network; `ways` are those of its head, or of its argument."""
    make = getattr(learners, name)
    steps = STEPS if "inner_steps" in inspect.signature(make).parameters else {}
    if name == "relation":
        net = models.conv4(None, 4, maps=True)
    elif name == "mtl" or pictures:
        net = models.conv4(ways if name in HEAD else None, 4, downsample="stride")
    else:
        net = linear_net(ways if name in HEAD else None)
    if name in HEAD:
        return make(net, **steps, **given)
    extra = {"classes": 20} if name in TRANSFER else {"width": 4} if name == "relation" else {}
    if name == "pmf":
        extra = {"test_steps": 2, "pseudo_queries": "none"}  # vectors cannot be moved
    return make(net, **steps, **extra, ways=ways, **given)


def episode(ways=3, shots=2, pictures=False, scale=1.0, seed=0):
    """Classes that lie apart, as vectors or as pictures."""
    rng = np.random.default_rng(seed)
    shape = (16, 16, 1) if pictures else (6,)
    centres = 3.0 * rng.normal(size=(ways, *shape))
    y = np.repeat(np.arange(ways, dtype=np.int32), shots)
    x, q = (jnp.asarray(scale * (centres[y] + 0.1 * rng.normal(size=(len(y), *shape))), jnp.float32) for _ in range(2))
    return Episode(x, jnp.asarray(y), q, jnp.asarray(y), jnp.arange(ways, dtype=jnp.int32))


def for_(name, **given):
    return episode(pictures=name in ("relation", "mtl"), **given)


def start(learner, task):
    return jax.jit(learner.init)(jax.random.key(0), task.support_x)


@pytest.mark.parametrize("name", [*HEAD, *METRIC])
class TestWays:
    def test_other_ways_than_the_tasks_are_an_error_with_both_numbers_while_tracing(self, name):
        task = for_(name, ways=5)
        learner = build(name, ways=3)
        theta = jax.eval_shape(learner.init, jax.random.key(0), task.support_x)
        with pytest.raises(ValueError, match=r"\b[35]\b.* ways.*\b[35]\b"):
            jax.eval_shape(learner.loss, theta, task)
        fewer = for_(name, ways=2)
        with pytest.raises(ValueError, match=r"\b[32]\b.* ways.*\b[32]\b"):
            jax.eval_shape(learner.loss, theta, fewer)

    def test_so_are_labels_that_have_values(self, name):
        task, learner = for_(name, ways=5), build(name, ways=3)
        theta = start(learner, task)
        with pytest.raises(ValueError, match="hold 4, where 3 ways have labels 0 to 2"):
            learner.adapt(theta, task.support_x, task.support_y)


@pytest.mark.parametrize("name", [*HEAD, *METRIC, *TRANSFER])
class TestLabels:
    @pytest.mark.parametrize(("wrong", "words"), [(-1, "hold -1"), (3, "hold 3, where 3 ways")])
    def test_out_of_range_where_they_have_values(self, name, wrong, words):
        task, learner = for_(name), build(name)
        theta = start(learner, task)
        bad = task.support_y.at[0].set(wrong)
        with pytest.raises(ValueError, match=words):
            learner.adapt(theta, task.support_x, bad)
        if name in TRANSFER:  # whose loss is of the source's classes
            with pytest.raises(ValueError, match="label -1 is no class"):
                learner.loss(theta, task._replace(query_y=task.query_y.at[0].set(-1)))
            return
        for part in ("support_y", "query_y"):
            with pytest.raises(ValueError, match=words):
                learner.loss(theta, task._replace(**{part: bad}))

    def test_one_hot_floats_are_told_apart(self, name):
        task, learner = for_(name), build(name)
        theta = start(learner, task)
        floats = jnp.eye(3)[task.support_y]
        if name in (*METRIC, *TRANSFER) and name != "r2d2":
            with pytest.raises(ValueError, match=r"integer labels.*argmax"):
                learner.adapt(theta, task.support_x, floats)
        else:
            with pytest.warns(UserWarning, match="look one-hot but are floats, so that this is a regression"):
                learner.adapt(theta, task.support_x, floats)
        if name not in TRANSFER:
            with pytest.raises(ValueError, match="integer labels"):
                jax.eval_shape(learner.loss, theta, task._replace(support_y=floats, query_y=floats))

    def test_as_many_as_examples(self, name):
        task, learner = for_(name), build(name)
        theta = start(learner, task)
        with pytest.raises(ValueError, match="support_x holds 6 examples"):
            learner.adapt(theta, task.support_x, task.support_y[:5])
        with pytest.raises(ValueError, match="vmap over a batch of tasks"):
            learner.adapt(theta, task.support_x, task.support_y[:, None])


SCALES = (1e-3, 1.0, 1e6)


@pytest.mark.parametrize("name", [*HEAD, *METRIC, *TRANSFER])
def test_blank_pictures_and_pictures_of_any_scale_give_finite_numbers(name):
    """Networks that normalise take off the scale, so that the method sees none of it; one program serves all."""
    task, learner = episode(pictures=True), build(name, pictures=True)
    blank = task._replace(support_x=jnp.zeros_like(task.support_x), query_x=jnp.zeros_like(task.query_x))
    theta = start(learner, task)

    @jax.jit
    def run(theta, task):
        phi = learner.adapt(theta, task.support_x, task.support_y)
        return jax.value_and_grad(lambda t: learner.loss(t, task)[0])(theta), learner.predict(theta, phi, task.query_x)

    scales = SCALES if name in (*HEAD, "proto_maml", "relation") else ()  # the others': see the next test
    for each in (blank, *(episode(pictures=True, scale=scale) for scale in scales)):
        for number in jax.tree.leaves(run(theta, each)):
            assert np.isfinite(number).all(), float(each.query_x.max())


@pytest.mark.parametrize("name", ["protonet", "matching", "r2d2", "meta_baseline", "simple_cnaps", *TRANSFER])
def test_features_of_any_scale_give_the_right_class(name):
    """A class is missing: it never wins, whether labels have values or are traced."""
    learner = build(name, **({"init_lambda": 1e-8} if name == "r2d2" else {}))
    theta = start(learner, episode())

    def answer(x, y, q):
        return learner.predict(theta, learner.adapt(theta, x, y), q)

    traced = jax.jit(answer)
    for scale in SCALES:
        task = episode(scale=scale)
        present = np.asarray(task.support_y) != 1
        for run in (answer, traced):
            full = run(task.support_x, task.support_y, task.query_x)
            assert np.isfinite(full).all(), scale
            if name == "finetune" and scale < 1:  # its plain descent has hardly moved: see the logistic head
                continue
            if name == "simple_cnaps" and scale > 1:  # a direction that no support image shows decides: I is nothing
                continue
            np.testing.assert_array_equal(full.argmax(1), task.query_y, str(scale))
            part = run(task.support_x[present], task.support_y[present], task.query_x)
            np.testing.assert_array_equal(part.argmax(1)[present], task.query_y[present], str(scale))
            assert not (part.argmax(1) == 1).any(), scale


def test_an_absent_class_never_wins_at_any_scale():
    present = jnp.array([True, False, True])
    for size in (1.0, 1e9, 1e30, np.inf):
        got = never_absent(-size * jnp.array([[1.0, 0.0, 2.0]]), present)
        assert got.argmax() != 1
        assert np.isfinite(jax.nn.log_softmax(got)[:, 0]).all()
    x = jnp.array([[0.0], [1e5]])
    learner = learners.protonet(linear_net(None))
    theta = learner.init(jax.random.key(0), x)
    y = jnp.array([0, 2], jnp.int32)
    for run in (learner.adapt, jax.jit(learner.adapt)):
        assert learner.predict(theta, run(theta, x, y), jnp.array([[5e4]])).argmax() != 1


def test_one_way_is_refused_and_a_regression_is_not():
    task = episode(ways=1)
    learner = learners.protonet(linear_net(None))
    theta = start(learner, task)
    with pytest.raises(ValueError, match="a task of 1 way is always right"):
        jax.eval_shape(learner.loss, theta, task)
    assert learner.predict(theta, learner.adapt(theta, task.support_x, task.support_y), task.query_x).shape == (2, 1)
    with pytest.raises(ValueError, match=r"1 way is always right.*float targets"):
        query_objective(jnp.zeros((2, 1)), task._replace(classes=None))  # integer targets of a regression
    assert set(query_objective(jnp.zeros((2, 1)), task._replace(query_y=jnp.ones((2, 1)), classes=None))[1]) == {"mse"}


def test_targets_of_another_kind_are_refused():
    x = jnp.zeros((2, 3))
    with pytest.raises(ValueError, match="neither integer labels nor float targets"):
        check_targets(x, jnp.array([True, False]), "support")
    with pytest.raises(ValueError, match="query_x holds 0 examples"):
        check_targets(x[:0], jnp.zeros(0, jnp.int32), "query")
    with pytest.raises(ValueError, match="hold 7, where 3 ways have labels 0 to 2"):
        objective(jnp.zeros((2, 3)), jnp.array([0, 7], jnp.int32))
    labels = jnp.array([0, 7], jnp.int32)
    with pytest.raises(ValueError, match="hold 7"):  # closed over by what is traced, they have values still
        jax.eval_shape(lambda z: objective(z, labels)[0], jnp.zeros((2, 3)))


@pytest.mark.parametrize("name", [*METRIC, *TRANSFER])
def test_a_network_with_a_head_is_refused_by_methods_that_take_features(name):
    make, extra = getattr(learners, name), {"classes": 20} if name in TRANSFER else {}
    learner, x = make(models.conv4(3, 4), **extra), jnp.zeros((6, 16, 16, 1))
    with pytest.raises(ValueError, match=f"{name} takes a network's features: build it without a head"):
        jax.eval_shape(learner.init, jax.random.key(0), x)


@pytest.mark.parametrize("name", ["protonet", "matching", "r2d2", "proto_maml", "simple_cnaps"])
def test_maps_in_place_of_features_are_refused(name):
    learner, x = getattr(learners, name)(models.conv4(None, 4, maps=True)), jnp.zeros((6, 16, 16, 1))
    params = jax.eval_shape(models.conv4(None, 4, maps=True).init, jax.random.key(0), x)
    theta = {"net": params, "ridge": dict.fromkeys(("log_lambda", "log_scale", "offset"), jnp.zeros(()))}
    with pytest.raises(ValueError, match=r"wants features \[n, d\], as conv4\(ways=None\) gives, not \[6, 4, 4, 4\]"):
        jax.eval_shape(learner.adapt, theta if name == "r2d2" else params, x, jnp.zeros(6, jnp.int32))


@pytest.mark.parametrize("name", ["anil", "mtl"])
def test_what_a_split_network_lacks_is_said(name):
    x = jnp.zeros((6, 16, 16, 1))
    net = models.conv4(3, 4)

    def needs_head(params, x, stats=None):
        return net.apply(params | {"head": params["head"]}, x, stats)

    def wrong_width(params, x, stats=None):
        out, stats = net.apply(params, x, stats)
        return (out if "head" in params else out[:, :2]), stats

    for apply, words in ((needs_head, "must give features where 'head' is left out"), (wrong_width, r"not \[6, 2\]")):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(getattr(learners, name)(Model(net.init, apply)).init, jax.random.key(0), x)
    odd = Model(lambda key, x: net.init(key, x) | {"head": {"w": jnp.zeros((4, 3))}}, net.apply)
    with pytest.raises(ValueError, match="head must be linear"):
        jax.eval_shape(getattr(learners, name)(odd).init, jax.random.key(0), x)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("maml", "inner_steps"),
        ("protonet", "ways"),
        ("lstm", "hidden"),
        ("r2d2", "newton_steps"),
        ("imaml", "cg_steps"),
    ],
)
def test_a_traced_count_is_refused_in_one_line(name, count):
    net = linear_net(3 if name in HEAD else None)
    with pytest.raises(ValueError, match="the shape of the program: give a plain number"):
        jax.eval_shape(lambda n: getattr(learners, name)(net, **{count: n}) and n, jnp.int32(2))
