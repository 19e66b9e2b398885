"""How programs meet the machine: which of XLA's options a program is compiled with."""

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import ClassPool, learners, models, train
from mtl_jax.run import backend
from mtl_jax.types import Episode


def task(images):
    """The shapes of a task of as many images of 28x28x1, a fifth of them support."""
    support, query = (jax.ShapeDtypeStruct((n, 28, 28, 1), jnp.float32) for n in (images // 5, images - images // 5))
    labels = jax.ShapeDtypeStruct((images,), jnp.int32)
    return Episode(support, labels, query, labels, labels)


def test_the_older_emitter_is_for_tasks_of_many_inputs():
    assert backend.compiler_options(task(10), 8) == ()
    assert backend.compiler_options(task(80), 8) == (backend.OLDER_EMITTER,)
    assert backend.compiler_options(task(80), 1) == ()  # one task, whose operations each run on all cores
    words = jax.ShapeDtypeStruct((10**6,), jnp.int32)  # a task's tokens are looked up, not looped over
    assert backend.compiler_options(words, 8) == ()


def test_an_xla_that_has_one_emitter_is_given_no_options(monkeypatch):
    backend._has_older_emitter.cache_clear()
    monkeypatch.setattr(backend, "OLDER_EMITTER", ("xla_cpu_no_such_option", False))
    assert backend.compiler_options(task(80), 8) == backend.run_once_options() == ()
    backend._has_older_emitter.cache_clear()


def test_both_emitters_train_alike(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), np.uint8)
    pool = ClassPool.from_arrays(images, np.repeat(np.arange(4), 10))
    learner, thetas = learners.maml(models.conv4(4, 8), inner_lr=0.1, inner_steps=2), []
    name, older = backend.OLDER_EMITTER
    for options in ((name, older),), ((name, not older),):
        monkeypatch.setattr("mtl_jax.run.train.compiler_options", lambda task, tasks, options=options: options)
        run = train(learner, pool, jax.random.key(0), ways=4, shots=1, queries=2, tasks=2, steps=3)
        thetas.append(run.theta)
    for one, two in zip(*map(jax.tree.leaves, thetas), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
