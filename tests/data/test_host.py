from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import ClassPool, learners, models, train
from mtl_jax.data.augment import AUGMENTATIONS
from mtl_jax.data.episodes import sample_episode, task_keys
from mtl_jax.data.host import host_batches


def pools(classes=6, least=5, shape=(6, 6, 1)):
    """The same images, ragged classes, on the device and on the host."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(classes), least + np.arange(classes))
    x = rng.integers(0, 256, (len(y), *shape), np.uint8)
    return ClassPool.from_arrays(x, y), ClassPool.from_arrays(x, y, host=True)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_batches_equal_those_drawn_on_the_device(key, augment):
    device, host = pools()
    sample = jax.jit(jax.vmap(partial(sample_episode, ways=4, shots=2, queries=3, augment=augment), (0, None)))
    for step, batch in enumerate(host_batches(key, host, 4, 2, 3, augment, tasks=3, start=5, stop=8), 5):
        want = sample(jax.random.split(jax.random.fold_in(key, step), 3), device)
        for name, a, b in zip(want._fields, batch, want, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{name} of step {step}")
            assert a.dtype == b.dtype
    assert step == 7


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg", "threefry2x32"])
def test_keys_of_every_implementation_draw_what_the_device_draws(impl):
    device, host = pools()
    key = jax.random.key(0, impl=impl)
    (batch,) = host_batches(key, host, 3, 1, 2, "flip_crop", tasks=2, start=4, stop=5)
    want = jax.vmap(partial(sample_episode, ways=3, shots=1, queries=2, augment="flip_crop"), (0, None))(
        task_keys(key, 4, 2), device
    )
    for a, b in zip(batch, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)


def test_old_style_keys_draw_as_new_ones(key):
    _, host = pools()
    one, two = (next(host_batches(k, host, 3, 1, 2, tasks=2)) for k in (key, jax.random.key_data(key)))
    np.testing.assert_array_equal(one.query_x, two.query_x)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.int32])
def test_features_and_tokens_are_drawn_from_a_mapped_file(tmp_path, key, dtype):
    x = np.random.default_rng(0).integers(0, 200, (24, 7)).astype(dtype)
    mapped = np.memmap(tmp_path / "x", dtype, "w+", shape=x.shape)
    mapped[:] = x
    y = np.repeat(np.arange(6), 4)
    device, host = ClassPool.from_arrays(x, y), ClassPool.from_arrays(mapped, y, host=True)
    assert np.shares_memory(host.x, mapped)
    batch = next(host_batches(key, host, 3, 1, 2, tasks=2))
    want = jax.vmap(partial(sample_episode, ways=3, shots=1, queries=2), (0, None))(task_keys(key, 0, 2), device)
    assert batch.query_x.dtype == dtype
    for a, b in zip(batch, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_mapped_file_stays_a_file(tmp_path, key):
    x = np.arange(6 * 4 * 9, dtype=np.uint8).reshape(24, 3, 3)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    pool = ClassPool.from_arrays(mapped, np.repeat(np.arange(6), 4), host=True)
    assert np.shares_memory(pool.x, mapped)
    assert pool.on_host
    batch = next(host_batches(key, pool, 3, 1, 2, tasks=2))
    assert batch.query_x.shape == (2, 6, 3, 3, 1)


def test_training_from_the_host_is_training_from_the_device_and_resumes(tmp_path, key):
    device, host = pools()
    learner = learners.maml(models.mlp(3, (8,)), 0.1, 1)
    settings = {"ways": 3, "shots": 1, "queries": 2, "tasks": 2, "augment": "rotations", "val_pool": device}
    settings |= {"val_every": 2, "val_episodes": 4, "log_every": 1, "optimizer": optax.adam(1e-3)}
    want = train(learner, device, key, steps=4, **settings)
    train(learner, host, key, steps=2, out=tmp_path / "run", **settings)
    got = train(learner, host, key, steps=4, out=tmp_path / "run", resume=True, **settings)
    for a, b in zip(jax.tree.leaves(got.state.theta), jax.tree.leaves(want.state.theta), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    scores = [[row["val_accuracy"] for row in run.history if "val_accuracy" in row] for run in (got, want)]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 2


def test_what_cannot_be_drawn_is_refused(key):
    _, host = pools()
    learner = learners.maml(models.mlp(3, (8,)), 0.1, 1)
    with pytest.raises(ValueError, match="7 ways from a pool of 6"):
        host_batches(key, host, 7, 1, 1)
    with pytest.raises(ValueError, match="hard_tasks are drawn on the device"):
        train(learner, host, key, ways=3, shots=1, queries=2, hard_tasks=True)
