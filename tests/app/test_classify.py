"""Backbones on the command line: features of a data set, and pictures named by a few examples, with nothing trained."""

import csv
import json

import numpy as np
import pytest
from command_line import mtl_jax

from mtl_jax import datasets
from mtl_jax.app import features, held_out
from mtl_jax.run import metrics


@pytest.fixture(autouse=True)
def _backbone(tiny_backbone):
    """In place of a large network."""


def test_features_are_what_npz_reads_with_the_splits_and_names_of_the_images(colours, tmp_path, capsys):
    out = tmp_path / "colours.npz"
    assert (
        mtl_jax("features", "lite0", "--dataset", f"folder:{colours}", "--out", out, "--image-size", 8, "--json") == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["features"], said["image_size"]) == (35, 3, 8)
    assert [p.name for p in tmp_path.iterdir() if "colours" in p.name] == ["colours.npz"]  # no parts are left
    for split, names in {"train": ("blue", "green", "red"), "test": ("white", "yellow")}.items():
        pool, pixels = (datasets.load(f"{k}", split) for k in (f"npz:{out}", f"folder:{colours}"))
        assert pool.names == pixels.names == names
        np.testing.assert_array_equal(pool.count, pixels.count)
        np.testing.assert_allclose(np.linalg.norm(pool.x, axis=-1), 1.0, rtol=1e-5)
    red = datasets.load(f"npz:{out}", "train").x[10:]
    assert (np.asarray(red)[:, 0] > 0.4).all()
    assert (np.asarray(red)[:, 1:] < -0.4).all()


def test_an_interrupted_run_goes_on_where_it_stopped(colours, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "PART", 4)
    asked, real = [], features.embedder

    def counting(backbone, stop=10**9):
        embed, side = real(backbone)

        def counted(images):
            if len(asked) == stop:
                raise KeyboardInterrupt
            asked.append(len(images))
            return embed(images)

        return counted, side

    monkeypatch.setattr(features, "embedder", lambda name: counting(name, 3))
    with pytest.raises(KeyboardInterrupt):
        features.write_features("lite0", f"folder:{colours}", tmp_path / "f.npz", 8)
    monkeypatch.setattr(features, "embedder", counting)
    with pytest.raises(ValueError, match="parts of another setting"):
        features.write_features("lite0", f"folder:{colours}", tmp_path / "f.npz", 16)
    features.write_features("lite0", f"folder:{colours}", tmp_path / "f.npz", 8)
    assert sum(asked) == 35  # none twice
    monkeypatch.setattr(features, "embedder", real)
    features.write_features("lite0", f"folder:{colours}", tmp_path / "g.npz", 8)
    one, two = (np.load(tmp_path / name) for name in ("f.npz", "g.npz"))
    np.testing.assert_array_equal(one["x"], two["x"])


def test_pictures_are_named_by_a_few_examples_and_it_says_how_good_to_expect(colours, tmp_path, capsys):
    table = tmp_path / "out.csv"
    away = tmp_path / "away"
    away.mkdir()
    files = [p.rename(away / f"{p.parent.name}.png") for p in sorted((colours / "train").rglob("4.png"))]
    assert mtl_jax("predict", "lite0", "--support", colours / "train", "--query", *files, "--csv", table) == 0
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["class"] for row in rows] == ["blue", "green", "red"]
    assert all(float(row["probability"]) > 0.9 and row["second"] != row["class"] for row in rows)
    assert "norm frozen; expect 100 % right (76 to 100)" in capsys.readouterr().err
    assert mtl_jax("predict", "lite0", "--support", colours / "train", "--query", away, "--json") == 0
    assert [row["class"] for row in json.loads(capsys.readouterr().out)["predictions"]] == ["blue", "green", "red"]


def test_the_left_out_logits_of_means_are_those_of_plain_loops():
    rng = np.random.default_rng(0)
    labels = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    x = rng.normal(size=(8, 5)).astype(np.float32)
    held = held_out.left_out_of_means(x, labels)
    judged = np.flatnonzero(labels != 2)  # a single image of its class stays
    np.testing.assert_array_equal(held.labels, labels[judged])
    for row, i in zip(held.logits, judged, strict=True):
        rest = [j for j in range(8) if j != i]
        of = {k: [x[j] for j in rest if labels[j] == k] for k in range(4)}
        spread = sum(((v - np.mean(of[k], 0)) ** 2).sum() for k in of for v in of[k]) / (7 - 4)
        want = [((x[i] - np.mean(of[k], 0)) ** 2).sum() - spread / len(of[k]) for k in range(4)]
        np.testing.assert_allclose(row, want, rtol=1e-5)


def test_a_class_of_many_images_draws_none_away_from_a_class_of_few():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2, 50))
    labels = np.array([0, 0] + 30 * [1])
    gaps = []
    for _ in range(300):
        means, excess = held_out.class_means(centres[labels] + 2 * rng.normal(size=(32, 50)), labels)
        between = centres.mean(0) + 2 * rng.normal(size=50)  # as near to the one as to the other
        distances = np.square(between - means).sum(-1)
        gaps.append((np.diff(distances)[0], np.diff(distances - excess)[0]))
    bare, without = np.mean(gaps, 0)
    assert bare < -80  # s^2 d (1 / 30 - 1 / 2) = -93
    assert abs(without) < 4 * np.std([g[1] for g in gaps]) / 300**0.5


def test_wilsons_interval_is_the_share_whose_test_just_fails():
    low, high = metrics.wilson(0.9, 50)
    for end in (low, high):
        assert abs(0.9 - end) / (end * (1 - end) / 50) ** 0.5 == pytest.approx(1.96, rel=1e-6)
    assert metrics.wilson(1.0, 10)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("features lite0 --dataset digits --out {tmp}/absent/x.npz", "folder that exists"),
        ("features lite0 --dataset digits --out {tmp}/x.csv", ".npz file"),
        ("predict lite0 --support {tmp} --query {tmp} --norm support", "norm frozen"),
        ("predict lite0 --support {tmp} --query {tmp} --folds 3", "leave --folds out"),
        ("predict lite0 --support {tmp}/absent --query {tmp}", "absent"),
        ("predict {tmp}/weights.safetensor --support {tmp} --query {tmp}", "config.json"),
    ],
)
def test_bad_input_is_one_line(command, said, tmp_path, capsys):
    assert mtl_jax(*command.format(tmp=tmp_path).split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mtl-jax: error: ")
    assert said in line
