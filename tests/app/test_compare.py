"""Runs on the same episodes: paired differences and tables; and what eval says of each class."""

import json
import re
import shutil

import numpy as np
import pytest
from command_line import mtl_jax

from mtl_jax import ClassPool, evaluate
from mtl_jax.app import compare, evaluation, load_run
from mtl_jax.run.metrics import ci95

TINY = "--ways 3 --shots 1 --queries 2 --tasks 2 --width 4 --steps 1 --val-every 9"
SMALL = TINY.split()
SIZE = {"ways": 3, "shots": 1, "queries": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Vectors of five classes that overlap, the same classes in train and test."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(5), 12)
    x = (rng.normal(size=(60, 4)) + 1.2 * np.eye(5, 4)[y]).astype(np.float32)
    file = tmp_path_factory.mktemp("data") / "points.npz"
    names, split = np.array(["ant", "bee", "cat|dog", "d_e", "emu"]), np.array((["train"] * 6 + ["test"] * 6) * 5)
    np.savez(file, x=x, y=y, names=names, split=split)
    return f"npz:{file}"


@pytest.fixture(scope="module")
def two_runs(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    for name, learner in (("one_1", "protonet"), ("two", "r2d2")):
        assert mtl_jax("train", learner, "--dataset", data, "--model", "mlp", "--out", out / name, *SMALL) == 0
    return out / "one_1", out / "two"


def test_the_difference_is_paired_and_its_interval_that_of_the_differences(two_runs, data, capsys, key):
    assert mtl_jax("compare", *two_runs, "--episodes", 60, "--queries", 4, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    pools = evaluation.runs.load_pool(load_run(two_runs[0]).settings, "test")
    scores = []
    for folder in two_runs:
        run = load_run(folder)
        scores.append(evaluate(run.learner, run.theta, pools, key, episodes=60, **SIZE).per_episode.astype(float))
    (gap,) = said["differences"]
    assert gap["run"] == str(two_runs[1])
    assert gap["minus"] == str(two_runs[0])
    assert gap["difference"] == pytest.approx((scores[1] - scores[0]).mean())
    assert gap["ci95"] == pytest.approx(1.96 * (scores[1] - scores[0]).std(ddof=1) / 60**0.5)
    assert 0 < gap["ci95"] < ci95(scores[0]) + ci95(scores[1])
    assert [row["accuracy"] for row in said["runs"]] == pytest.approx([s.mean() for s in scores])
    assert (said["dataset"], said["ways"], said["queries"], said["seed"]) == (data, 3, 4, 0)


def test_tables_say_the_same_in_three_forms(two_runs, capsys):
    command = ["compare", *two_runs, two_runs[0], "--episodes", 20]
    found = {}
    for form in ("", "--markdown", "--latex", "--json"):
        assert mtl_jax(*command, *([form] if form else [])) == 0
        found[form] = capsys.readouterr().out
    rows = json.loads(found["--json"])["runs"]
    for row in rows:
        figure = f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}"
        assert figure in found[""]
        assert figure in found["--markdown"]
        assert figure.replace("±", r"$\pm$") in found["--latex"]
    assert len(json.loads(found["--json"])["differences"]) == 3
    table = [line for line in found["--markdown"].splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert {line.count("|") for line in table} == {6}
    assert table[-1].split("|")[5].strip() == "+0.00 ± 0.00"  # a run less itself
    body = [line for line in found["--latex"].splitlines() if line.endswith(r" \\")]
    assert {line.count("&") for line in body} == {4}
    assert r"one\_1" in body[1]
    assert "$-$" in found["--latex"] or "$+$" in found["--latex"]


def test_signs_are_escaped():
    assert compare._escaped("a_b & 5 % of {x}") == r"a\_b \& 5 \% of \{x\}"
    assert compare._escaped("-1.20 ± 0.30") == r"$-$1.20 $\pm$ 0.30"
    assert compare._markdown([("a|b", "", "", "", "")], "x").splitlines()[2] == r"| a\|b |  |  |  |  |"


def test_eval_per_class_is_what_evaluate_gives(two_runs, capsys, key):
    command = ["eval", two_runs[0], "--episodes", 60]
    assert mtl_jax(*command, "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert mtl_jax(*command, "--per-class", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    contract = "learner dataset split ways shots queries inner_steps norm episodes accuracy ci95 seed"
    assert list(plain) == contract.split()
    assert {k: said[k] for k in plain} == plain
    run = load_run(two_runs[0])
    pool = evaluation.runs.load_pool(run.settings, "test")
    seen = evaluate(run.learner, run.theta, pool, key, episodes=60, **{**SIZE, "queries": 2})
    assert (said["nll"], said["ece"]) == pytest.approx((seen.nll, seen.ece))
    assert list(said["per_class"]) == list(pool.names)
    np.testing.assert_allclose(list(said["per_class"].values()), seen.per_class)
    counts = np.array(said["confusion"]["counts"])
    np.testing.assert_array_equal(counts, seen.confusion)
    assert counts.sum() == 60 * 3 * 2
    np.testing.assert_allclose(np.diag(counts) / counts.sum(1), seen.per_class)
    one, other, share = said["confused"][0]
    off = counts / counts.sum(1, keepdims=True) * (1 - np.eye(5))
    assert share == pytest.approx(off.max())
    assert off[pool.names.index(one), pool.names.index(other)] == pytest.approx(share)
    assert mtl_jax(*command, "--per-class") == 0
    out = capsys.readouterr().out
    worst = re.findall(r"^  (\S+) +([\d.]+) %$", out, re.MULTILINE)
    assert [float(share) for _, share in worst] == sorted(round(100 * v, 2) for v in said["per_class"].values())
    assert f"  {one} for {other}: " in out


def test_a_pool_without_names_has_numbered_classes():
    x = np.zeros((4, 2), np.float32)
    seen = evaluation._by_class(
        evaluation_of(np.array([1.0, np.nan]), np.array([[2, 0], [0, 0]])), ClassPool.from_arrays(x, [0, 0, 1, 1]).names
    )
    assert seen["per_class"] == {"class 0": 1.0, "class 1": None}
    assert seen["confused"] == []


def evaluation_of(per_class, confusion):
    from mtl_jax.run.evaluate import Evaluation

    return Evaluation(np.ones(3), "accuracy", 0, per_class, 0.1, 0.2, confusion)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("compare {one}", "two or more"),
        ("compare {one} {tmp}/absent", "absent"),
        ("compare {one} {other}", "ways 3 and 2: give --ways"),
        ("compare {one} {two} --ways 9", "at most 5"),
        ("compare {one} {two} --markdown --json", "not allowed with"),
        ("compare {one} {two} --per-class", "no option --per-class"),
    ],
)
def test_bad_input_is_one_line(command, said, two_runs, tmp_path, capsys):
    other = shutil.copytree(two_runs[0], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"ways": 2}))
    places = {"one": two_runs[0], "two": two_runs[1], "other": other, "tmp": tmp_path}
    assert mtl_jax(*command.format(**places).split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mtl-jax: error: ")
    assert said in line
