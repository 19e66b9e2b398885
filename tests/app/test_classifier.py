"""Images that are normalised together, a few at a time: the same numbers as in one batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.app import classifier
from mtl_jax.app.build import build_learner
from mtl_jax.app.methods import resolve_settings
from mtl_jax.app.pictures import Support


@pytest.mark.parametrize(("learner", "model"), [("protonet", "conv4"), ("fomaml", "conv4")])
def test_moments_a_few_images_at_a_time_give_the_outputs_of_one_batch(learner, model, key, monkeypatch):
    given = {"inner_steps": 1} if learner == "fomaml" else {}
    given |= {"learner": learner, "model": model, "width": 4, "ways": 3, "image_shape": (20, 20, 3)}
    settings = resolve_settings(given)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (13, 20, 20, 3), np.uint8)
    images[5:] //= 3  # so that no part has the moments of the whole
    known = Support(images[:6], np.array([0, 0, 1, 1, 2, 2], np.int32), ("a", "b", "c"), (), ())
    theta = build_learner(settings, 3).init(key, jnp.zeros((1, 20, 20, 3)))
    theta = jax.tree.map(lambda a: a + 0.3 * jax.random.normal(key, a.shape), theta)
    whole = classifier.of_run(settings, theta, known)
    assert whole.together
    want, compared = classifier.run(whole, images)
    monkeypatch.setattr(classifier, "TOGETHER", 13 * 400 - 1)
    few = classifier.of_run(settings, theta, known)._replace(batch=4)
    seen, features = classifier.run(few, images)
    scale = np.abs(want).max()
    np.testing.assert_allclose(seen / scale, want / scale, atol=2e-4)
    np.testing.assert_allclose(features, compared, atol=2e-3 * np.abs(compared).max())
    apart = np.concatenate([classifier.run(whole, images[i : i + 4])[0] for i in (0, 4, 8)])
    assert np.abs(apart / scale - want[:12] / scale).max() > 0.01  # which batches of four are not


@pytest.mark.parametrize(
    ("given", "warns"),
    [({}, True), ({"combine": "mean"}, False), ({"shots": 2}, False), ({"sizes": [(3, 1, 2), (3, 2, 2)]}, False)],
)
def test_a_relation_network_by_sums_warns_of_other_shots_than_its_training_had(given, warns, key, caplog):
    given = {"learner": "relation", "model": "conv4", "width": 4, "ways": 3, "image_shape": (16, 16, 1), **given}
    settings = resolve_settings(given)
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 1), np.uint8)
    known = Support(images, np.array([0, 0, 1, 1, 2, 2], np.int32), ("a", "b", "c"), (), ())
    theta = build_learner(settings, 3).init(key, jnp.zeros((1, 16, 16, 1)))
    classifier.of_run(settings, theta, known)
    assert ("--combine mean" in caplog.text) == warns
