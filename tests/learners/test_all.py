"""Every method of the command line, built from its table, keeps to what a Learner promises."""

import inspect
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import ClassPool, Episode, learners, models, sample_episode
from mtl_jax.app import build
from mtl_jax.app.build import build_learner, over_the_run
from mtl_jax.app.methods import METHODS, change, resolve_settings
from mtl_jax.run import checkpoint
from mtl_jax.types import Learner, TrainState

SIDE, CLASSES = 16, 24
REGRESSION = ("maml", "fomaml", "anil", "boil", "meta_sgd", "mamlpp", "imaml", "reptile", "lstm", "r2d2")
# what has no effect on this loss: one number added to all logits
SILENT = {"r2d2": {"ridge/offset"}}


@pytest.fixture(autouse=True, scope="module")
def _small_networks():
    """Layers that compile at once in place of conv4, where a method has no need of convolutions."""

    def network(settings, ways, maps=False):
        if maps or settings.learner == "mtl":  # which scales convolutions
            return models.conv4(ways, 4, settings.network.norm, "stride", maps)
        return models.mlp(ways, (8, 6))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "network", network)
        yield


def tiny(name, **given):
    """A learner on a small network, with its own defaults but few steps."""
    settings = resolve_settings({"learner": name, "width": 4, **given})
    steps = {k: 2 for k in ("inner_steps", "test_steps") if settings.method.get(k)}
    return build_learner(of_source(change(settings, **steps)))


def of_source(settings):
    """The settings with as many source classes as the pool has, as the data say in a run."""
    return replace(settings, task=replace(settings.task, classes=CLASSES))


def start(learner, key, task):
    return jax.jit(learner.init)(key, task.support_x)


def outputs(learner):
    """(theta, task) -> outputs on the queries, compiled."""
    return jax.jit(
        lambda theta, task: learner.predict(theta, learner.adapt(theta, task.support_x, task.support_y), task.query_x)
    )


def episode(key, ways=3, shots=2, queries=2):
    return sample_episode(key, POOL, ways, shots, queries)


def _pool():
    """Classes of 7, 8 or 9 noisy images around an image of their own."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(CLASSES), np.arange(CLASSES) % 3 + 7)
    x = 0.5 * rng.uniform(size=(CLASSES, SIDE, SIDE, 1))[y] + 0.5 * rng.uniform(size=(len(y), SIDE, SIDE, 1))
    return ClassPool.from_arrays(x, y)


POOL = _pool()


def named_leaves(tree):
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in flat}


def test_every_method_has_a_name_on_the_command_line():
    assert {m.function for m in METHODS.values()} == {n for n in learners.__all__ if n in dir(learners)}
    said = (
        "maml fomaml anil boil cavia meta-sgd mamlpp proto-maml imaml reptile protonet matching relation r2d2 lstm mtl"
    )
    today = "simpleshot rfs meta-baseline feat metaoptnet simple-cnaps tsa pmf tim bdcspn"
    assert set(METHODS) == {*said.split(), *today.split(), "finetune", "baseline-pp"}


@pytest.mark.parametrize("name", METHODS)
class TestEvery:
    def test_arguments_are_named_as_the_contract_says(self, name):
        learner = tiny(name)
        want = ("key x", "theta support_x support_y", "theta phi x", "theta episode")
        assert [" ".join(inspect.signature(f).parameters) for f in learner] == list(want)

    def test_gradients_are_finite_reach_all_that_learns_and_come_of_one_program(self, name, key):
        learner, task = tiny(name, ways=3), episode(key)
        theta = start(learner, key, task)
        gradient = jax.jit(jax.grad(learner.loss, has_aux=True))
        grads, metrics = gradient(theta, task)
        assert all(m.shape == () and m.dtype == jnp.float32 for m in metrics.values())
        assert 0 <= metrics["accuracy"] <= 1
        for leaf, g in named_leaves(grads).items():
            assert np.isfinite(g).all(), leaf
            if leaf not in SILENT.get(name, ()):
                assert g.any() != leaf.startswith("frozen/"), leaf
        gradient(jax.tree.map(lambda t, g: t - 1e-3 * g, theta, grads), episode(jax.random.key(1)))
        assert gradient._cache_size() == 1

    def test_it_is_traced_where_a_user_has_jax_refuse_to_broadcast(self, name, key):
        learner, task = tiny(name, ways=3), episode(key)
        with jax.numpy_rank_promotion("raise"):
            theta = jax.eval_shape(learner.init, key, task.support_x)
            grads = jax.eval_shape(jax.grad(lambda theta, task: learner.loss(theta, task)[0]), theta, task)
            assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, theta)
            assert jax.eval_shape(outputs(learner), theta, task).shape[0] == len(task.query_y)

    def test_vmap_and_scan_give_what_a_loop_gives(self, name, key):
        learner = tiny(name, ways=3)
        tasks = jax.vmap(episode)(jax.random.split(key, 2))
        of_task = outputs(learner)
        each = [jax.tree.map(lambda a, i=i: a[i], tasks) for i in range(2)]
        theta = start(learner, key, each[0])
        in_turn = jnp.stack([of_task(theta, task) for task in each])
        together = jax.jit(jax.vmap(of_task, (None, 0)))(theta, tasks)
        scanned = jax.jit(lambda theta, tasks: jax.lax.scan(lambda c, t: (c, of_task(theta, t)), 0, tasks)[1])
        for got in (together, scanned(theta, tasks)):
            np.testing.assert_allclose(got, in_turn, rtol=2e-3, atol=2e-4)
        assert np.isfinite(in_turn).all()

    @pytest.mark.parametrize(("ways", "shots"), [(1, 1), (20, 5)])
    def test_one_way_and_twenty(self, name, key, ways, shots):
        learner, task = tiny(name, ways=ways), episode(key, ways, shots, 1)
        theta = start(learner, key, task)
        logits = outputs(learner)(theta, task)
        assert logits.shape == (ways, ways)
        assert np.isfinite(logits).all()
        if ways == 1 and METHODS[name].trains_on != "batches":  # always right: refused where it would be scored
            with pytest.raises(ValueError, match="a task of 1 way is always right"):
                jax.eval_shape(learner.loss, theta, task)
        else:
            assert np.isfinite(jax.jit(learner.loss)(theta, task)[0])

    def test_classes_may_have_different_numbers_of_support_images(self, name, key):
        learner, task = tiny(name, ways=3), episode(key, 3, 3, 1)
        keep = np.array([0, 1, 2, 3, 6, 7])  # three, one and two images
        ragged = task._replace(support_x=task.support_x[keep], support_y=task.support_y[keep])
        logits = outputs(learner)(start(learner, key, task), ragged)
        assert logits.shape == (3, 3)
        assert np.isfinite(logits).all()

    def test_checkpoint_gives_back_theta(self, name, key, tmp_path):
        learner = tiny(name, ways=3)
        theta = start(learner, key, episode(key))
        state = TrainState(theta, optax.sgd(0.1).init(theta), jnp.int32(1), key)
        manager = checkpoint.open_manager(tmp_path / "checkpoints")
        checkpoint.save(manager, state, None)
        manager.close()
        like = state._replace(theta=jax.tree.map(jnp.zeros_like, theta))
        back = checkpoint.restore(tmp_path / "checkpoints", like)
        jax.tree.map(np.testing.assert_array_equal, back.theta, theta)

    def test_the_trainer_takes_what_the_table_gives(self, name):
        learner = over_the_run(of_source(resolve_settings({"learner": name, "width": 4})))
        assert isinstance(learner, Learner) or isinstance(learner(0), Learner)


@pytest.mark.parametrize("name", REGRESSION)
def test_regression(name, key):
    factory = getattr(learners, name)
    learner = factory(models.mlp(None if name == "r2d2" else 1, (8,)))
    x = jnp.linspace(-2, 2, 8)[:, None]
    task = Episode(x, jnp.sin(x), x + 0.1, jnp.sin(x + 0.1))
    theta = learner.init(key, x)
    (value, metrics), grads = jax.jit(jax.value_and_grad(learner.loss, has_aux=True))(theta, task)
    assert np.isfinite(value)
    assert metrics["mse"].shape == ()
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert learner.predict(theta, learner.adapt(theta, x, task.support_y), x).shape == (8, 1)
