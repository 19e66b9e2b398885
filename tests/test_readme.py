"""The README's Python runs as it stands."""

import re
from pathlib import Path

import jax

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    return names


def test_example_runs_and_is_short(tmp_path, monkeypatch, capsys):
    assert sum(bool(line.strip()) and not line.strip().startswith("#") for line in BLOCKS[0].splitlines()) <= 25
    names = run(BLOCKS[0], tmp_path, monkeypatch)
    shapes, accuracy = capsys.readouterr().out.splitlines()
    assert shapes == "(5, 28, 28, 1) (75,)"
    assert 20 < float(accuracy.split()[0]) <= 100  # 5 ways: better than chance
    assert jax.tree.structure(names["grads"]) == jax.tree.structure(names["theta"])


def test_added_method_trains(tmp_path, monkeypatch, key):
    from mtl_jax import datasets, train

    assert len(BLOCKS[1].splitlines()) < 40
    names = run(BLOCKS[1], tmp_path, monkeypatch)
    trained = train(names["learner"], datasets.load("digits", "test"), key, queries=2, tasks=2, steps=3)
    assert len(trained.history) == 1


def test_there_are_two_examples_and_at_most_150_lines():
    assert len(BLOCKS) == 2, "a new example wants a test of its own"
    assert len(TEXT.splitlines()) <= 150


def test_the_figures_of_its_results_are_on_the_page_of_results():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    table = TEXT.partition("## Results")[2].partition("\n## ")[0]
    figures = re.findall(r"\d+\.\d\d ± \d\.\d\d", table)
    assert len(figures) > 20
    assert [figure for figure in figures if figure not in page] == []


def test_the_page_of_results_is_made_of_the_records(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import results

    assert results.PAGE.read_text(encoding="utf-8") == results.page(), "run python experiments/results.py"


def test_the_tables_of_speed_are_made_of_the_records(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import performance

    text = performance.PAGE.read_text(encoding="utf-8")
    assert text == performance.page(), "run python experiments/performance.py"
    assert "| A: MAML" in text
