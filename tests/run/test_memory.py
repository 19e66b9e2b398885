"""Tasks at a time on an accelerator, whose memory is made up here; programs of dead learners are let go of."""

import gc
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import ClassPool, learners, models, train
from mtl_jax.run import memory
from mtl_jax.run.memory import Program

STATE, POOL = jnp.zeros(2), jnp.ones(3)


class Made:
    """A step that needs 10 bytes per task at a time, and may fail when it runs."""

    def __init__(self, chunk, fails):
        self.chunk, self.fails = chunk, fails

    def lower(self, *_):
        return self

    compile = memory_analysis = lower

    @property
    def temp_size_in_bytes(self):
        return 10 * self.chunk

    def __call__(self, state, pool, count):
        if self.chunk >= self.fails:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return state + count, self.chunk


@pytest.mark.parametrize(("free", "fits"), [(10_000, 64), (700, 32), (640, 32), (360, 32), (350, 16), (1, 1)])
def test_the_most_tasks_that_the_free_memory_holds(monkeypatch, free, fits):
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    program = Program(lambda chunk: Made(chunk, 999), None, 64)
    assert [program(STATE, POOL, 2)[1] for _ in range(2)] == [fits, fits]


def test_out_of_memory_halves_it_once_says_so_and_loses_nothing(monkeypatch, caplog):
    monkeypatch.setattr(memory, "free_memory", lambda: 10_000)
    program = Program(lambda chunk: Made(chunk, 64), None, 64)
    state, chunk = program(STATE, POOL, 3)
    assert chunk == 32
    np.testing.assert_array_equal(state, 3.0)
    assert "out of memory with 64 tasks at a time: going on with 32" in caplog.text
    twice = Program(lambda chunk: Made(chunk, 32), None, 64)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        twice(STATE, POOL, 3)


def test_a_number_that_is_given_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1)
    assert Program(lambda chunk: Made(chunk, 999), 7, 64)(STATE, POOL, 1)[1] == 7


def test_a_real_step_is_the_same_with_what_fits(monkeypatch, key):
    pool = ClassPool.from_arrays(np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), np.arange(40) // 10)
    learner, go = learners.protonet(models.mlp(None, (4,))), {"ways": 3, "queries": 2, "tasks": 4, "steps": 3}
    usual = train(learner, pool, key, **go)
    monkeypatch.setattr(memory, "free_memory", lambda: 2000)
    fitted = train(learner, pool, key, **go)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), fitted.state.theta, usual.state.theta
    )


@pytest.mark.slow
def test_trainings_in_a_row_let_go_of_their_programs(key):
    """11 trainings, of which the last 8 are kept: the first learners are freed, and memory maps no longer grow."""
    pool = ClassPool.from_arrays(np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), np.arange(40) // 10)
    alive, maps = [], []
    for _ in range(11):
        learner = learners.protonet(models.mlp(None, (4,)))
        alive.append(weakref.ref(learner.loss))
        train(learner, pool, key, ways=3, queries=2, tasks=2, steps=1)
        del learner
        gc.collect()
        maps.append(len(Path("/proc/self/maps").read_text().splitlines()) if Path("/proc/self/maps").exists() else 0)
    assert [ref() is None for ref in alive] == [True] * 3 + [False] * 8
    assert maps[-1] - maps[8] < 0.1 * (maps[7] - maps[0])
