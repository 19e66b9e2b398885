"""Every method of the command line, built from its table, keeps to what a Learner promises."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import ClassPool, Episode, learners, models, sample_episode
from mtl_jax.run import checkpoint
from mtl_jax.run.methods import METHODS, build_learner, complete, over_the_run
from mtl_jax.types import Learner, TrainState

SIDE, CLASSES = 16, 24
REGRESSION = ("maml", "fomaml", "anil", "boil", "meta_sgd", "mamlpp", "imaml", "reptile", "lstm", "r2d2")


def tiny(name, **given):
    """A learner on a narrow network, with its own defaults but few steps."""
    config = complete({"learner": name, "width": 4, **given})
    steps = {k: 2 for k in ("inner_steps", "test_steps") if config[k]}
    return build_learner({**config, **steps, "classes": CLASSES})


def episode(key, ways=3, shots=2, queries=2):
    return sample_episode(key, pool(), ways, shots, queries)


def pool():
    """Classes of 7, 8 or 9 noisy images around an image of their own."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(CLASSES), np.arange(CLASSES) % 3 + 7)
    x = 0.5 * rng.uniform(size=(CLASSES, SIDE, SIDE, 1))[y] + 0.5 * rng.uniform(size=(len(y), SIDE, SIDE, 1))
    return ClassPool.from_arrays(x, y)


def named_leaves(tree):
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in flat}


def test_every_method_has_a_name_on_the_command_line():
    assert {m.function for m in METHODS.values()} == {n for n in learners.__all__ if n in dir(learners)}
    said = "maml fomaml anil boil meta-sgd mamlpp proto-maml imaml reptile protonet matching relation r2d2 lstm mtl"
    assert set(METHODS) == {*said.split(), "finetune", "baseline-pp"}


@pytest.mark.parametrize("name", METHODS)
class TestEvery:
    def test_arguments_are_named_as_the_contract_says(self, name):
        learner = tiny(name)
        want = ("key x", "theta support_x support_y", "theta phi x", "theta episode")
        assert [" ".join(inspect.signature(f).parameters) for f in learner] == list(want)

    def test_gradients_are_finite_reach_all_that_learns_and_nothing_frozen(self, name, key):
        learner, task = tiny(name, ways=3), episode(key)
        theta = learner.init(key, task.support_x)
        grads, metrics = jax.jit(jax.grad(learner.loss, has_aux=True))(theta, task)
        assert all(m.shape == () and m.dtype == jnp.float32 for m in metrics.values())
        assert 0 <= metrics["accuracy"] <= 1
        for leaf, g in named_leaves(grads).items():
            assert np.isfinite(g).all(), leaf
            if leaf.startswith("frozen/"):
                assert (g == 0).all(), leaf
        still = {leaf for leaf, g in named_leaves(grads).items() if not g.any() and not leaf.startswith("frozen/")}
        assert still <= silent(name), still

    def test_one_program_serves_every_task(self, name, key):
        learner, calls = tiny(name, ways=3), []

        def loss(theta, task):
            calls.append(1)
            return learner.loss(theta, task)[0]

        step = jax.jit(jax.grad(loss))
        theta = learner.init(key, episode(key).support_x)
        for i in range(3):
            theta = jax.tree.map(lambda t, g: t - 1e-3 * g, theta, step(theta, episode(jax.random.key(i))))
        assert step._cache_size() == 1

    def test_vmap_and_scan_give_what_a_loop_gives(self, name, key):
        learner = tiny(name, ways=3)
        tasks = jax.vmap(episode)(jax.random.split(key, 2))
        theta = learner.init(key, tasks.support_x[0])

        def outputs(task):
            return learner.predict(theta, learner.adapt(theta, task.support_x, task.support_y), task.query_x)

        together = jax.jit(jax.vmap(outputs))(tasks)
        in_turn = jax.jit(lambda tasks: jax.lax.scan(lambda c, t: (c, outputs(t)), 0, tasks)[1])(tasks)
        np.testing.assert_allclose(together, in_turn, rtol=2e-3, atol=2e-4)
        assert np.isfinite(together).all()

    @pytest.mark.parametrize(("ways", "shots"), [(1, 1), (20, 5)])
    def test_one_way_and_twenty(self, name, key, ways, shots):
        learner = tiny(name, ways=ways)
        task = episode(key, ways, shots, 1)
        theta = learner.init(key, task.support_x)
        phi = learner.adapt(theta, task.support_x, task.support_y)
        logits = learner.predict(theta, phi, task.query_x)
        assert logits.shape == (ways, ways)
        assert np.isfinite(logits).all()
        assert np.isfinite(learner.loss(theta, task)[0])

    def test_classes_may_have_different_numbers_of_support_images(self, name, key):
        learner, task = tiny(name, ways=3), episode(key, 3, 3, 1)
        keep = np.array([0, 1, 2, 3, 6, 7])  # three, one and two images
        theta = learner.init(key, task.support_x)
        logits = learner.predict(theta, learner.adapt(theta, task.support_x[keep], task.support_y[keep]), task.query_x)
        assert logits.shape == (3, 3)
        assert np.isfinite(logits).all()

    def test_checkpoint_gives_back_theta(self, name, key, tmp_path):
        learner = tiny(name, ways=3)
        theta = learner.init(key, episode(key).support_x)
        state = TrainState(theta, optax.sgd(0.1).init(theta), jnp.int32(1), key)
        manager = checkpoint.open_manager(tmp_path / "checkpoints")
        checkpoint.save(manager, state, None)
        manager.close()
        like = jax.tree.map(jnp.zeros_like, state._replace(key=jax.random.key_data(key)))._replace(key=key)
        back = checkpoint.restore(tmp_path / "checkpoints", like)
        jax.tree.map(np.testing.assert_array_equal, back.theta, theta)

    def test_the_trainer_takes_what_the_table_gives(self, name):
        config = complete({"learner": name, "width": 4, "classes": CLASSES})
        learner = over_the_run(config)
        assert isinstance(learner, Learner) or isinstance(learner(0), Learner)


def silent(name):
    """Leaves without an effect on the loss of this very task, method by method."""
    return {}.get(name, set())


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
