"""How good to expect: refits, temperature, calibration and threshold, each against plain loops or a closed form."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from mtl_jax import learners, models
from mtl_jax.app import held_out


def test_no_part_takes_a_whole_class_and_every_image_is_left_out_once():
    for sizes in product((1, 2, 3, 5), repeat=4):
        labels = np.repeat(np.arange(4), sizes)
        judged = np.flatnonzero(np.bincount(labels)[labels] > 1)
        for parts in range(2, len(judged) + 1):
            kept, tested = held_out.split(labels, parts)
            assert sorted(tested[tested >= 0]) == judged.tolist()
            for keep, test in zip(kept, tested, strict=True):
                assert not set(keep) & set(test)
                assert len(set(keep)) == len(keep) == len(labels) - tested.shape[1]
                assert set(labels[keep]) == set(range(4)), (sizes, parts)


def test_classes_of_one_size_lose_one_image_each():
    kept, tested = held_out.split(np.repeat(np.arange(4), 3), 3)
    labels = np.repeat(np.arange(4), 3)
    assert (np.sort(labels[tested], 1) == np.arange(4)).all()
    assert (np.bincount(labels[kept[0]]) == 2).all()


@pytest.mark.parametrize("parts", [None, 2])
def test_refits_are_those_of_plain_loops(key, parts):
    rng = np.random.default_rng(0)
    labels = np.array([1, 0, 1, 2, 0, 2, 2, 3])
    x = jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)
    learner = learners.maml(models.mlp(4, (6,)), inner_lr=0.1, inner_steps=2)
    theta = learner.init(key, x)
    held = held_out.refitted(learner, theta, x, labels, parts)
    kept, tested = held_out.split(labels, parts or 3)
    want = {}
    for keep, test in zip(kept, tested, strict=True):
        phi = learner.adapt(theta, x[keep], jnp.asarray(labels[keep]))
        for i in test[test >= 0]:
            want[i] = np.asarray(learner.predict(theta, phi, x[i][None])[0])
    judged = np.flatnonzero(labels != 3)
    assert sorted(want) == judged.tolist()
    np.testing.assert_allclose(held.logits, [want[i] for i in judged], atol=1e-5)
    np.testing.assert_array_equal(held.labels, labels[judged])


def test_queries_that_are_normalised_together_are_judged_together(key):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 3)
    x = jnp.asarray(rng.uniform(size=(6, 16, 16, 1)), jnp.float32)
    learner = learners.protonet(models.conv4(None, 4), ways=2)
    theta = learner.init(key, x)
    held = held_out.refitted(learner, theta, x, labels, 6, together=True)
    keep = np.delete(np.arange(6), 4)

    @jax.jit
    def logits(theta, x):
        return learner.predict(theta, learner.adapt(theta, x[keep], jnp.asarray(labels[keep])), x)

    np.testing.assert_allclose(held.logits[4], logits(theta, x)[4], rtol=2e-4, atol=2e-4)


def test_the_temperature_is_the_likeliest_and_the_error_after_it_is_of_the_others():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    logits = 9 * (rng.normal(size=(40, 3)) + 0.8 * np.eye(3)[labels])  # nine times too sure
    seen = held_out.estimate(held_out.HeldOut(logits, labels))

    def best(rows):
        def loss(t):
            p = log_softmax(t * logits, axis=1)
            return -p[rows, labels[rows]].sum() + 0.3 * np.log2(t) ** 2

        return min(held_out.TEMPERATURES, key=loss)

    assert seen.temperature == best(np.arange(40)) < 0.5
    assert seen.accuracy == (logits.argmax(1) == labels).mean()
    sure = [np.exp(log_softmax(best(np.delete(np.arange(40), i)) * logits[i])).max() for i in range(40)]
    assert seen.ece_after == pytest.approx(held_out.calibration_error(np.array(sure), logits.argmax(1) == labels))
    assert seen.ece_after < 0.5 * seen.ece_before
    assert seen.low < seen.accuracy < seen.high


def test_a_few_images_that_are_all_right_do_not_make_it_sure():
    labels = np.array([0, 1, 0, 1])
    seen = held_out.estimate(held_out.HeldOut(4.0 * np.eye(2)[labels], labels))
    assert 1 <= seen.temperature < 2
    assert held_out.estimate(held_out.HeldOut(np.zeros((0, 2)), labels[:0])) is None


def test_the_calibration_error_by_hand():
    sure, right = np.array([0.9, 0.92, 0.5, 1.0]), np.array([True, False, True, True])
    # bins of 1/15: 0.9 and 0.92 lie in the same, 0.5 and 1.0 in others
    want = (abs(1.82 - 1) + abs(0.5 - 1) + abs(1.0 - 1)) / 4
    assert held_out.calibration_error(sure, right) == pytest.approx(want)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.99])
def test_the_threshold_leaves_its_share_of_the_support_set_below_it(rate):
    sure = np.random.default_rng(0).normal(size=37)
    assert (sure < held_out.threshold(sure, rate)).sum() == int(rate * 37)
