"""What the experiments over a split backbone share: scores of one body's features are the method's own, and gaps."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import ClassPool, learners, models, sample_episode

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
import over_backbone as shared


def test_a_head_on_the_features_of_mtls_body_is_mtl(key):
    rng = np.random.default_rng(0)
    pool = ClassPool.from_arrays(rng.uniform(size=(30, 2, 2, 192)).astype(np.float32), np.repeat(np.arange(5), 6))
    head = {"inner_lr": 0.1, "inner_steps": 3, "test_steps": 4}
    learner = learners.mtl(shared.of_length(models.efficientnet("lite0", 5, after=14), 10.0), transfer="film", **head)
    theta = learner.init(key, jnp.asarray(pool.x[:1]))
    theta["shift"] = jax.tree.map(lambda a: a + 0.1, theta["shift"])
    whole = shared.of_length(models.efficientnet("lite0", after=14), 10.0)
    features = shared.features_of(whole, shared.body_of(learner, theta, pool), {"some": pool})["some"]
    np.testing.assert_allclose(jnp.linalg.norm(features.x, axis=1), 10.0, rtol=1e-5)
    alone = learners.mtl(shared.as_they_are(5), transfer="none", **head)
    answers = []
    for of, start, drawn_from in ((learner, theta, pool), (alone, {"frozen": {}, "head": theta["head"]}, features)):
        e = sample_episode(key, drawn_from, 5, 2, 2)
        answers.append(of.predict(start, of.adapt(start, e.support_x, e.support_y), e.query_x))
    np.testing.assert_allclose(*answers, rtol=1e-3, atol=1e-4)


def test_gaps_are_paired_over_the_episodes_that_both_have(tmp_path):
    (tmp_path / "scores").mkdir()
    kept = {"a": [0.5, 0.7, 0.9, 1.0], "b none from s": [0.4, 0.4], "b film from s": [0.8, 0.4]}
    for name, values in kept.items():
        np.save(tmp_path / "scores" / f"{name}@far@5.npy", np.array(values))
    (tmp_path / "s-film").mkdir()
    (tmp_path / "s-film" / "seconds.json").write_text('{"seconds": 3.0}')
    shared.write_record(
        tmp_path, {"norm": "frozen"}, {"far": "none"}, {"over_a": "a", "over": "b none from {source}"}, "s"
    )
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["train_seconds"] == {"s-film": 3.0}
    a, film, none = record["transfer"]
    assert (a["method"], a["episodes"], a["leakage"], "over_a" in a) == ("a", 4, "none", False)
    np.testing.assert_allclose(a["over"], 0.2)  # a source is not in its name, so that it is the one given
    np.testing.assert_allclose(a["accuracy"], 0.775)
    np.testing.assert_allclose((film["over"], film["over_a"], none["over_a"]), (0.2, 0.0, -0.2), atol=1e-12)
    np.testing.assert_allclose(film["over_ci95"], 1.96 * np.std([0.4, 0.0], ddof=1) / 2**0.5)
    assert "over" not in none


def test_at_most_so_many_images_of_so_many_classes(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images, y = rng.integers(0, 256, (9, 8, 8, 3), np.uint8), np.repeat(np.arange(3), (2, 4, 3))
    monkeypatch.setattr(shared, "images_of", lambda dataset, split: (images, y))
    mean = lambda params, x: x.mean((1, 2), keepdims=True)  # noqa: E731
    monkeypatch.setattr(models, "pretrained_maps", lambda backbone, after: (mean, {}))
    pool = shared.maps_of(tmp_path / "maps.npz", "lite0", 3, "some", "test", 3, 2)
    assert (pool.classes, pool.x.shape) == (2, (5, 1, 1, 3))
    np.testing.assert_allclose(pool.x[:, 0, 0], images[[0, 1, 2, 3, 4]].mean((1, 2)) / 255, atol=0.01)
    monkeypatch.setattr(shared, "images_of", None)  # once made, they are read
    np.testing.assert_array_equal(shared.maps_of(tmp_path / "maps.npz", "lite0", 3, "some", "test", 3, 2).x, pool.x)
