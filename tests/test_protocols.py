"""Several protocols from one adaptation per episode: the figures that each has by itself."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mtl_jax import ClassPool, evaluate, learners, models
from mtl_jax.learners.copies import with_copies

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
from protocols import Protocol, score_protocols

WANTED = [Protocol("transductive", 7), Protocol("support", 7), Protocol("transductive", 2)]
SIZE = {"ways": 3, "shots": 2, "episodes": 9}


def inner(name):
    return lambda norm: getattr(learners, name)(models.conv4(3, 4, norm, "stride"), 0.3, 2)


def metric(norm):
    return learners.protonet(models.conv4(None, 4, norm, "stride"))


def copied(norm):
    """One of the inner loops with copies of the support set, its moments theirs too."""
    return with_copies(inner("fomaml")(norm), vary="affine", support_copies=2)


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    plain = rng.uniform(size=(5, 1, 16, 16, 1)) + 0.7 * rng.uniform(size=(5, 12, 16, 16, 1))
    x = np.rint(plain / plain.max() * 255).astype(np.uint8).reshape(60, 16, 16, 1)
    return ClassPool.from_arrays(x, np.repeat(np.arange(5), 12))


@pytest.mark.parametrize(
    "by_norm",
    [inner("maml"), inner("anil"), inner("reptile"), metric, copied],
    ids=["maml", "anil", "reptile", "protonet", "copies"],
)
def test_each_protocol_has_its_own_figures(key, pool, by_norm):
    theta = by_norm("support").init(key, pool.x[:6].astype(np.float32) / 255)
    seen = score_protocols(by_norm, theta, pool, WANTED, **SIZE)
    for of, scores in zip(WANTED, seen, strict=True):
        own = evaluate(by_norm(of.norm), theta, pool, jax.random.key(1), queries=of.queries, **SIZE)
        np.testing.assert_allclose(scores, own.per_episode, atol=1e-6)
    assert not np.array_equal(seen[0], seen[1])  # the norm and the number of queries tell
    assert not np.array_equal(seen[0], seen[2])


def test_an_inner_loop_runs_once_for_all_of_them(key, pool):
    made = []

    def by_norm(norm):
        learner = inner("fomaml")(norm)

        def adapt(theta, x, y):
            made.append(norm)
            return learner.adapt(theta, x, y)

        return learner._replace(adapt=adapt)

    theta = by_norm("support").init(key, np.zeros((6, 16, 16, 1), np.float32))
    score_protocols(by_norm, theta, pool, WANTED, **SIZE)
    assert set(made) == {"support"}


def test_scores_of_outputs_that_are_not_finite_are_nan_and_said(key, pool, caplog):
    theta = jax.tree.map(lambda a: a * np.nan, inner("maml")("support").init(key, np.zeros((6, 16, 16, 1), np.float32)))
    assert all(np.isnan(scores).all() for scores in score_protocols(inner("maml"), theta, pool, WANTED, **SIZE))
    assert caplog.text.count("9 of 9 episodes have outputs that are not finite") == len(WANTED)
