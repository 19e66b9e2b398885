"""The experiment of augmented copies: each test without them and with them, and where its figures stand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import mtl_jax

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
import results
import tables
import with_copies

GO = ("--ways", 3, "--queries", 2, "--tasks", 2, "--model", "mlp", "--width", 4, "--steps", 1, "--val-episodes", 2)


@pytest.fixture
def run(tmp_path):
    y = np.repeat(np.arange(18), 4)
    x = np.random.default_rng(0).integers(0, 256, (72, 16, 16, 1)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    place = ("--dataset", f"npz:{tmp_path / 'data.npz'}", "--out", tmp_path / "run")
    assert mtl_jax("train", "protonet", *place, *GO) == 0
    return tmp_path / "run"


@pytest.mark.filterwarnings("ignore:.*no splits of its own")
def test_copies_are_tested_beside_none_and_what_they_gain_is_paired(run, tmp_path, monkeypatch):
    asked = [str(run), "--ways", "3", "--shots", "1", "--episodes", "8", "--support-copies", "2", "--vary", "affine"]
    monkeypatch.setattr(sys, "argv", ["experiment", *asked, "--as-many", "--out", str(tmp_path / "out")])
    with_copies.main()
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    plain, more = record["test"]
    assert (record["experiment"], record["learner"]) == ("with_copies", "protonet")
    assert record["dataset"] == f"npz:{tmp_path / 'data.npz'}"
    assert (plain["norm"], plain["queries"], more["queries"]) == ("transductive", 1, 1)
    assert "vary" not in plain
    assert (more["vary"], more["support_copies"], more["query_copies"]) == ("affine", 2, 0)
    assert more["gain"] == pytest.approx(more["accuracy"] - plain["accuracy"])
    assert more["gain_ci95"] >= 0
    page = list(tables.accuracies(record, "own"))
    assert [line.split(" | ")[0] for line in page[2:4]] == [
        "| protonet", "| protonet, 2 support and 0 query copies by affine",
    ]  # fmt: skip
    assert f"3-way 1-shot, 1 queries, transductive {100 * more['gain']:+.2f}" in page[-1]


def test_no_copies_are_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiment", "protonet-glyphs", "--support-copies", "0"])
    with pytest.raises(SystemExit) as end:
        with_copies.main()
    assert end.value.code == 2
    assert "no copies are asked for: give --support-copies N" in capsys.readouterr().err


def test_figures_with_copies_stay_out_of_the_papers_table():
    size = {"norm": "transductive", "ways": 5, "shots": 5, "queries": 5, "ci95": 0.002}
    added = {"accuracy": 0.99, "vary": "affine", "support_copies": 9, "query_copies": 0, "gain": 0.1, "gain_ci95": 0.01}
    rows = [{**size, "accuracy": 0.89}, {**size, **added}]
    record = {"experiment": "with_copies", "learner": "maml", "dataset": "omniglot", "test": rows}
    (line,) = list(results.beside_papers({"a": record}))[1:]
    assert "| 89.00 ± 0.20 | no | a |" in line
