"""Intervals over what is independent, and files that are whole or not there."""

import json

import numpy as np
import pytest
from scipy import stats

from mtl_jax.run.metrics import ci95, ci95_of_seeds, over_shared_episodes, read_jsonl, whole_file, write_json


def test_the_interval_of_a_handful_of_seeds_covers_95_percent():
    rng, inside = np.random.default_rng(0), {"t": 0, "normal": 0}
    for _ in range(2000):
        seeds = rng.normal(0, 1, 3)
        inside["t"] += abs(seeds.mean()) <= ci95_of_seeds(seeds)
        inside["normal"] += abs(seeds.mean()) <= ci95(seeds)
    assert abs(inside["t"] / 2000 - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5
    assert inside["normal"] / 2000 < 0.86  # what 1.96 would have covered
    assert np.isnan(ci95_of_seeds([0.5]))
    low, high = stats.t.interval(0.95, 4, loc=0.3, scale=stats.sem([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert ci95_of_seeds([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx((high - low) / 2)


def test_networks_scored_on_the_same_episodes_are_not_more_episodes():
    """Scores = episode's difficulty + network's own noise: the interval of the mean must cover the truth."""
    rng, covered, pooled = np.random.default_rng(1), 0, 0
    for _ in range(1000):
        difficulty = rng.normal(0.5, 0.1, 60)
        scores = difficulty + rng.normal(0, 0.06, (3, 60))  # correlation 0.74 between networks
        row = over_shared_episodes(scores)
        covered += abs(row["mean"] - 0.5) <= row["ci95"]
        pooled += abs(row["mean"] - 0.5) <= ci95(scores.ravel())
    assert covered / 1000 > 0.92
    assert pooled / 1000 < 0.85
    assert row["seeds"] == pytest.approx(scores.mean(1))
    assert row["spread"] == pytest.approx(scores.mean(1).std(ddof=1))


def test_paired_gaps_are_over_episodes_too():
    gaps = np.array([[1.0, 3.0], [3.0, 5.0]])
    assert over_shared_episodes(gaps)["ci95"] == pytest.approx(ci95([2.0, 4.0]))
    with pytest.raises(ValueError, match=r"\[networks, episodes\]"):
        over_shared_episodes([1.0, 2.0])


def test_a_torn_line_loses_itself_alone(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step": 2, "lo\n[3]\n{"step": 4}\n{"st', encoding="utf-8")
    assert [row["step"] for row in read_jsonl(tmp_path / "m.jsonl")] == [1, 4]


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "名前.json"
    write_json(path, {"名": "é", "bad": float("nan"), "n": np.float32(0.5)})
    assert json.loads(path.read_text(encoding="utf-8")) == {"名": "é", "bad": None, "n": 0.5}

    def broken():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        broken()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert "half" not in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="not a regular file"), whole_file(tmp_path):
        pass
