"""Backbones on the command line: features of a data set, and pictures named by a few examples, with nothing trained."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from scipy.special import log_softmax

from mtl_jax import cli, datasets
from mtl_jax.app import features, predict
from mtl_jax.types import Model


@pytest.fixture
def colours(tmp_path):
    """Classes of one colour each, with noise; splits train, val and test of different colours."""
    rng = np.random.default_rng(0)
    for split, names in {"train": "red green blue", "val": "cyan magenta", "test": "yellow white"}.items():
        for name in names.split():
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(5):
                flat = np.asarray(Image.new("RGB", (20, 16), name), np.int16) + rng.integers(-60, 60, (16, 20, 3))
                Image.fromarray(np.clip(flat, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def _tiny_backbone(monkeypatch):
    """A backbone whose features are an image's mean colour about the middle, in place of a large network."""

    def tiny(name):
        return Model(lambda key, x: {}, lambda params, x, stats=None: (x.mean((1, 2)) - 0.5, None)), {}

    monkeypatch.setattr(features, "pretrained", tiny)


def mtl_jax(*args):
    try:
        cli.main([str(a) for a in args])
    except SystemExit as end:
        return end.code
    return 0


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


def test_the_temperature_and_the_accuracy_are_those_of_images_left_out():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 4)
    x = rng.normal(size=(12, 5)).astype(np.float32) + 1.5 * np.eye(3, 5, dtype=np.float32)[labels]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    sums, count = np.zeros((3, 5)), np.bincount(labels)
    np.add.at(sums, labels, x)
    temperature, seen = predict._left_out(x, labels, sums, count)
    right, scores = 0, dict.fromkeys(predict.TEMPERATURES, 0.0)
    for i in range(12):
        rest = np.arange(12) != i
        d = np.array([((x[i] - x[rest & (labels == k)].mean(0)) ** 2).sum() for k in range(3)])
        right += d.argmin() == labels[i]
        for t in scores:
            scores[t] += float(log_softmax(-t * d)[labels[i]])
    assert seen.accuracy == pytest.approx(right / 12)
    assert temperature == max(scores, key=scores.get)
    assert predict._left_out(x[::4], labels[::4], sums, np.ones(3, int)) == (8.0, None)


def test_wilsons_interval_is_the_share_whose_test_just_fails():
    low, high = predict.wilson(0.9, 50)
    for end in (low, high):
        assert abs(0.9 - end) / (end * (1 - end) / 50) ** 0.5 == pytest.approx(1.96, rel=1e-6)
    assert predict.wilson(1.0, 10)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("features lite0 --dataset digits --out {tmp}/absent/x.npz", "folder that exists"),
        ("features lite0 --dataset digits --out {tmp}/x.csv", ".npz file"),
        ("predict lite0 --support {tmp} --query {tmp} --norm support", "norm frozen"),
        ("predict lite0 --support {tmp}/absent --query {tmp}", "absent"),
        ("predict {tmp}/weights.safetensor --support {tmp} --query {tmp}", "config.json"),
    ],
)
def test_bad_input_is_one_line(command, said, tmp_path, capsys):
    assert mtl_jax(*command.format(tmp=tmp_path).split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mtl-jax: error: ")
    assert said in line
