"""Hard tasks: failed classes alone as long as there are enough, and every promise of an ordinary episode besides."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax.data.episodes import episode_from
from mtl_jax.data.hard import empty, sample_hard_episode, turn, worst_class
from mtl_jax.data.pool import ClassPool

COUNTS = (4, 9, 4, 6, 5, 7, 4, 8)  # images of each class
CODES = np.arange(sum(COUNTS), dtype=np.uint8)  # image i is all i
LABELS = np.repeat(np.arange(len(COUNTS)), COUNTS)
WAYS = 3


@pytest.fixture(scope="module")
def ragged():
    return ClassPool.from_arrays(np.broadcast_to(CODES[:, None, None, None], (len(CODES), 2, 2, 1)), LABELS)


def codes(x):
    """Which image of the ragged pool each one is."""
    return np.round(np.asarray(x)[..., 0, 0, 0] * 255).astype(int)


def ints(values):
    return jnp.asarray(values, jnp.int32)


def failed(classes, size=12):
    room = empty(size)
    return room._replace(classes=room.classes.at[: len(classes)].set(ints(classes)), recorded=jnp.int32(len(classes)))


draw = jax.jit(partial(sample_hard_episode, ways=WAYS, shots=1, queries=2))
draw_rotated = jax.jit(partial(sample_hard_episode, ways=WAYS, shots=1, queries=2, augment="rotations"))
draw_many = jax.jit(jax.vmap(partial(sample_hard_episode, ways=WAYS, shots=1, queries=2), in_axes=(0, None, None)))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31 - 1), worst=st.lists(st.integers(0, 7), max_size=12))
def test_only_failed_classes_are_drawn_as_long_as_there_are_enough(ragged, seed, worst):
    ep = draw(jax.random.key(seed), ragged, failed(worst))
    classes = ep.classes.tolist()
    assert len(set(classes)) == WAYS, "classes are drawn without replacement"
    if len(set(worst)) >= WAYS:
        assert set(classes) <= set(worst)
    else:
        assert set(worst) <= set(classes), "all that failed, and others make up the number"
    support, query = codes(ep.support_x), codes(ep.query_x)
    both = np.concatenate([support, query])
    assert len(set(both.tolist())) == len(both), "no image twice: support and query are disjoint"
    assert (LABELS[support] == np.asarray(classes)[np.asarray(ep.support_y)]).all()
    assert (LABELS[query] == np.asarray(classes)[np.asarray(ep.query_y)]).all()
    assert ep.support_y.tolist() == [0, 1, 2]
    assert ep.query_y.tolist() == [0, 0, 1, 1, 2, 2]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31 - 1), worst=st.lists(st.integers(0, 31), min_size=1, max_size=12))
def test_a_rotation_fails_on_its_own(ragged, seed, worst):
    """Ids beyond the pool's classes are these classes turned, and a failed one does not stand for the others."""
    classes = draw_rotated(jax.random.key(seed), ragged, failed(worst)).classes.tolist()
    assert len(set(classes)) == WAYS
    assert set(classes) <= set(worst) or set(worst) <= set(classes)
    assert max(classes) < 4 * len(COUNTS)


def test_failed_classes_are_equally_likely_however_often_they_failed(ragged):
    n, worst = 2000, (1, 1, 1, 1, 1, 2, 4, 5, 7)  # class 1 five times, of five classes
    classes = np.asarray(draw_many(jax.random.split(jax.random.key(0), n), ragged, failed(worst)).classes)
    assert set(classes.ravel().tolist()) == set(worst)
    for label in range(WAYS):  # and each carries each label equally often: 5 sigma of a binomial count
        times = np.bincount(classes[:, label], minlength=8)[[1, 2, 4, 5, 7]]
        assert np.abs(times - n / 5).max() < 5 * np.sqrt(n * 0.2 * 0.8)


def test_one_failed_class_is_always_there_under_any_label_among_random_others(ragged):
    n = 2000
    classes = np.asarray(draw_many(jax.random.split(jax.random.key(1), n), ragged, failed([6])).classes)
    assert (classes == 6).any(1).all()
    where = np.bincount((classes == 6).argmax(1), minlength=WAYS)
    assert np.abs(where - n / 3).max() < 5 * np.sqrt(n * 2 / 9)
    others = np.bincount(classes[classes != 6], minlength=8)[[0, 1, 2, 3, 4, 5, 7]]
    assert np.abs(others - 2 * n / 7).max() < 5 * np.sqrt(n * 2 / 7 * 5 / 7)


def test_images_are_drawn_anew(ragged):
    """Every image of a failed class comes up, in support and in query."""
    ep = draw_many(jax.random.split(jax.random.key(2), 300), ragged, failed([1, 3, 5]))
    want = set(CODES[np.isin(LABELS, (1, 3, 5))].tolist())
    assert set(codes(ep.support_x).ravel().tolist()) == want
    assert set(codes(ep.query_x).ravel().tolist()) == want


def test_it_is_an_episode_of_the_classes_drawn(ragged, key):
    ep = sample_hard_episode(key, ragged, failed([1, 3, 5, 7]), WAYS, 1, 2, "flip_crop")
    same = episode_from(key, ragged, ep.classes, 1, 2, "flip_crop")
    for one, two in zip(ep, same, strict=True):
        np.testing.assert_array_equal(one, two)


def test_what_the_pool_cannot_give_is_refused(ragged, key):
    with pytest.raises(ValueError, match="9 ways from a pool of 8 classes"):
        sample_hard_episode(key, ragged, failed([1]), 9, 1, 1)
    with pytest.raises(ValueError, match="smallest class has 4"):
        sample_hard_episode(key, ragged, failed([1]), 2, 2, 3)


def test_classes_gather_over_random_steps_and_are_forgotten_after_the_hard_one(key):
    every, tasks = 2, 3
    kept, go = empty(every * tasks), jax.jit(partial(turn, every=every))
    assert kept.classes.tolist() == [-1] * 6
    for k in range(3):
        first, second = np.asarray(jax.random.randint(jax.random.fold_in(key, k), (2, tasks), 0, 50))
        kept = go(kept, ints(first))
        assert (kept.classes.tolist(), int(kept.steps)) == ([*first.tolist(), -1, -1, -1], 1)
        kept = go(kept, ints(second))
        assert kept.classes.tolist() == [*first.tolist(), *second.tolist()]
        assert int(kept.steps) == every  # the next step is hard
        kept = go(kept, ints(first))
        assert (kept.classes.tolist(), int(kept.recorded), int(kept.steps)) == ([-1] * 6, 0, 0)


def plainly(classes, logits, y):
    """The worst class by two loops; of equals, the one of the highest loss."""
    scores = []
    for label, c in enumerate(classes):
        mine = logits[y == label].astype(np.float64)
        right = int((mine.argmax(1) == label).sum())
        loss = (np.log(np.exp(mine).sum(1)) - mine[:, label]).mean()
        scores.append((right, -loss, c))
    return min(scores)[2]


def test_the_worst_class_is_that_of_two_loops(key):
    classes, y = ints([9, 4, 30, 2, 17]), jnp.repeat(ints(range(5)), 4)
    logits = jax.random.normal(key, (64, 20, 5)) + jax.nn.one_hot(y, 5)
    order = jax.random.permutation(key, 20)  # queries need not be sorted
    got = jax.jit(jax.vmap(worst_class, (None, 0, None)))(classes, logits[:, order], y[order])
    assert got.dtype == jnp.int32
    assert got.tolist() == [plainly(classes.tolist(), each, np.asarray(y)) for each in np.asarray(logits)]


def test_of_equally_accurate_classes_the_one_of_the_highest_loss_and_no_rounding_decides():
    """Shares of 15 are not exact: summed query by query, equal ones differ in the last bit in an eighth of tasks."""
    ways, queries, rng = 5, 15, np.random.default_rng(0)
    y = np.repeat(np.arange(ways), queries)
    tasks = []
    for _ in range(200):
        right = rng.integers(1, queries)
        logits = np.zeros((ways * queries, ways), np.float32)
        for label in range(ways):
            hit = rng.permutation(queries) < right  # as many of each class, in other places
            guess = np.where(hit, label, (label + 1) % ways)
            logits[np.flatnonzero(y == label), guess] = np.where(hit, 3.0, 3.0 + 0.5 * label)
        tasks.append(logits)
    got = jax.jit(jax.vmap(worst_class, (None, 0, None)))(ints([10, 11, 12, 13, 14]), jnp.asarray(tasks), ints(y))
    assert set(got.tolist()) == {14}


def test_a_class_without_queries_has_not_failed():
    logits = jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 2.0, 0.0]])
    assert worst_class(ints([5, 6, 7]), logits, ints([0, 0, 1])) == 5


def test_nothing_depends_on_the_width_of_integers():
    with jax.enable_x64(True):
        held = turn(empty(4), ints([3, 1]), 2)
        assert held.classes.dtype == held.recorded.dtype == jnp.int32
        logits = jnp.array([[0.0, 1.0], [0.0, 1.0]], jnp.float64)
        assert worst_class(ints([8, 9]), logits, ints([0, 1])) == 8
