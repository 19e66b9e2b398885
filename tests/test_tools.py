"""What the experiments share: a run within a time, its rows, its record."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mtl_jax import cli
from mtl_jax.app.methods import resolve_settings

sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
import paired
import results
import tables
import tools

SMALL = {
    "ways": 3, "queries": 2, "tasks": 2, "width": 4, "image_size": 16, "val_every": 2, "val_episodes": 4, "steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for k in range(5):
            (root / split / f"class{k}").mkdir(parents=True)
            for i in range(18):
                pixels = rng.integers(0, 256, (16, 16), np.uint8)
                Image.fromarray(pixels).save(root / split / f"class{k}" / f"{i}.png")
    return f"folder:{root}"


@pytest.fixture(scope="module")
def start(data, tmp_path_factory):
    """The folder of a pre-trained network's run."""
    folder = tmp_path_factory.mktemp("start") / "run"
    tools.launch(resolve_settings(SMALL | {"dataset": data, "learner": "finetune", "batch": 8}), folder, quiet=True)
    return folder


def test_a_time_is_kept(data, tmp_path):
    settings = resolve_settings({"learner": "protonet", "dataset": data, **SMALL})
    run, result = tools.launch_for(settings, 0.02, tmp_path / "run")
    assert result["steps"] == int(run.state.step) >= 1
    assert result["steps"] == pytest.approx(1200 / result["ms_a_step"], abs=1)


def test_a_refused_experiment_ends_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["experiment", "--init", str(tmp_path / "none"), "--out", str(tmp_path / "run")])
    for refused in (
        lambda: tools.publish("tiny", "about", {"small": {"learner": "protonet", "dataset": "glyphs", **SMALL}}),
        lambda: paired.publish_from_one("tiny", "about", {"small": SMALL | {"learner": "mtl"}}, {"mtl": {}}),
    ):
        with pytest.raises(SystemExit) as end:
            refused()
        said = capsys.readouterr().err
        assert end.value.code == 2
        assert said.startswith("experiment: error: no config.json in")
        assert said.count("\n") == 1
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("odd", [{"width": 5}, {"dataset": "glyphs"}, {"image_size": 8}])
def test_a_network_of_something_else_is_refused_before_anything_is_measured(
    data, start, tmp_path, monkeypatch, capsys, odd
):
    out = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["experiment", "--init", str(start), "--out", str(out)])
    setting = {"learner": "mtl", "dataset": data, "width": 4, "image_size": 16} | odd
    with pytest.raises(SystemExit) as end:
        paired.publish_from_one("tiny", "about", {"small": setting}, {"mtl": {}})
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert f"is finetune on {data} at 16 pixels by conv4 of width 4: give finetune or rfs on" in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_what_starts_from_one_network_is_set_beside_it_on_the_same_episodes(data, start, tmp_path, monkeypatch):
    out, asked = tmp_path / "run", []

    def train_and_score(given, folder, shots):
        asked.append((given, folder.relative_to(out).as_posix(), shots))
        return np.linspace(0.0, 0.1 * (1 + len(asked)), 20)

    monkeypatch.setattr(paired, "EPISODES", 20)
    monkeypatch.setattr(paired, "train_and_score", train_and_score)
    monkeypatch.setattr(sys, "argv", ["experiment", "--init", str(start), "--out", str(out), "--seeds", "3", "4"])
    setting = {"learner": "mtl", "dataset": data, "shots": 2, "width": 4, "image_size": 16}
    paired.publish_from_one("tiny", "about", {"small": setting}, {"mtl": {}, "mtl hard-tasks": {"hard_tasks": True}})
    assert [(folder, shots) for _, folder, shots in asked] == [
        ("seed3/mtl", 2), ("seed3/mtl-hard-tasks", 2), ("seed4/mtl", 2), ("seed4/mtl-hard-tasks", 2),
    ]  # fmt: skip
    assert asked[3][0] == setting | {"init": str(start), "seed": 4, "hard_tasks": True}
    record = json.loads((out / "result.json").read_text())
    assert (record["experiment"], record["shots"], record["commit"]) == ("tiny", 2, tools.commit())
    assert record["mtl"]["seeds"] == pytest.approx([0.1, 0.2])
    assert record["mtl hard-tasks - mtl"]["seeds"] == pytest.approx([0.05, 0.05])
    for before in ("baseline", "linear head", "untrained"):
        assert 0.1 < record[before]["mean"] < 0.9  # 5 ways of noise
        gap = record[f"mtl - {before}"]
        assert gap["seeds"] == pytest.approx([own - record[before]["mean"] for own in (0.1, 0.2)])
    assert "mtl - mtl hard-tasks" not in record
    assert any("5-way 2-shot" in line for line in tables.over_networks(record, "folder"))


def test_scores_are_measured_once_for_the_same_network_and_size(tmp_path, monkeypatch):
    path, measured = tmp_path / "out" / "scores.json", iter((0.2, 0.4, 0.6))
    monkeypatch.setattr(paired, "EPISODES", 2)

    def keep(shots):
        return paired.keep_scores(path, {"shots": shots}, lambda: np.full(2, next(measured))).tolist()

    assert keep(1) == keep(1) == [0.2, 0.2]
    assert keep(5) == keep(5) == [0.4, 0.4]
    monkeypatch.setattr(paired, "EPISODES", 3)
    assert keep(5) == [0.6, 0.6]


def test_an_experiment_trains_tests_under_both_norms_and_goes_on(data, tmp_path, monkeypatch):
    small = {"learner": "protonet", "dataset": data, **SMALL, "keep_best": 2, "val_every": 1, "average": 0.5}
    settings = {"small": small, "large": {"learner": "maml"}}
    for steps in (["--steps", "2"], ["--steps", "3", "--resume"]):
        monkeypatch.setattr(sys, "argv", ["experiment", "--out", str(tmp_path / "run"), *steps])
        tools.publish("tiny", "about", settings, shots=(1,), episodes=6, ways=(3,), queries=2, as_many=True)
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (record["experiment"], record["setting"], record["steps"]) == ("tiny", "small", 3)
    assert [(row["norm"], row["queries"], row.get("ensemble", 1)) for row in record["test"]] == [
        ("transductive", 2, 1), ("support", 2, 1), ("transductive", 1, 1),
        ("transductive", 2, 2), ("support", 2, 2), ("transductive", 1, 2),
    ]  # fmt: skip
    assert all((row["ways"], row["episodes"]) == (3, 6) for row in record["test"])
    assert record["commit"] == tools.commit()
    assert record["average"] == 0.5
    assert "patience" not in record
    assert [step for step, _ in record["curve"]] == [1, 2, 3]
    assert max(seen for _, seen in record["curve"]) == pytest.approx(record["val_accuracy"])
    assert all(0 <= row["accuracy"] <= 1 for row in record["test"])
    page = list(tables.accuracies(record, "folder"))
    assert [line.split(" | ")[0] for line in page[2:6]] == [
        *["| protonet, averaged over steps"] * 2, *["| protonet, averaged over steps, 2 checkpoints"] * 2,
    ]  # fmt: skip
    assert page[-1].startswith("\nLearning curve of protonet, validation percent (after steps): ")
    assert page[-1].count("(") == 4


def test_several_seeds_are_a_row_with_each_network_s_figure(data, tmp_path, monkeypatch, capsys):
    settings = {"small": {"learner": "protonet", "dataset": data, **SMALL}}
    test = {"shots": (1,), "episodes": 6, "ways": (3,), "queries": 2, "norms": ("transductive",)}

    def publish(*asked):
        monkeypatch.setattr(sys, "argv", ["experiment", "--out", str(tmp_path / "run"), *asked])
        tools.publish("tiny", "about", settings, **test)
        return json.loads((tmp_path / "run" / "result.json").read_text())

    record = publish("--seeds", "3", "4")
    (row,) = record["test"]
    folders = [tmp_path / "run" / f"seed{seed}" for seed in (3, 4)]
    alone = [tools.score_run(folder, **{**test, "ways": 3})[0]["accuracy"] for folder in folders]
    assert row["seeds"] == alone
    assert row["accuracy"] == pytest.approx(np.mean(alone))
    assert record["seeds"] == [3, 4]
    assert [json.loads((folder / "config.json").read_text())["seed"] for folder in folders] == [3, 4]
    cell = f"| 2: {100 * alone[0]:.2f}, {100 * alone[1]:.2f} |"
    assert cell in list(tables.accuracies(record, "folder"))[2]
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        publish("--seeds", "5", "5", "--resume")  # a spread of nothing
    assert end.value.code == 2
    assert capsys.readouterr().err == "experiment: error: --seeds has 5 twice: give each once\n"
    with pytest.raises(SystemExit) as end:
        publish("--seeds", "5", "4")  # refused before seed 5 is trained
    assert end.value.code == 2
    assert "seed4" in capsys.readouterr().err
    assert not (tmp_path / "run" / "seed5").exists()
    curves = [(folder / "metrics.jsonl").read_text() for folder in folders]
    more = publish("--seeds", "3", "4", "5", "--resume")  # what is done is not done again
    assert more["test"][0]["seeds"][:2] == alone
    assert [(folder / "metrics.jsonl").read_text() for folder in folders] == curves


def test_errors_of_regression_say_which_seed_diverged():
    rows = [
        {"method": "a", "steps": 1, "mse": None, "ci95": None, "seeds": [0.5, None]},
        {"method": "b", "steps": 1, "mse": 0.25, "ci95": 0.125, "seeds": [0.25]},
        {"method": "c", "steps": 1, "mse": 0.5, "ci95": 0.125, "seeds": [0.25, 0.75]},
    ]
    record = {
        "experiment": "own",
        "shots": 5,
        "average": 0.5,
        "methods": [{"method": r["method"], "test": [r]} for r in rows],
    }
    assert list(tables.errors(record))[3:] == [
        "| a, averaged over steps | diverges (0.500, diverges) |",
        "| b, averaged over steps | 0.250 ± 0.125 |",
        "| c, averaged over steps | 0.500 ± 0.125 (0.250, 0.750) |",
    ]


def test_the_papers_table_takes_the_best_network_of_each_protocol():
    def record(learner, *rows):
        test = [{"norm": "transductive", "ways": 5, "shots": 5, "ci95": 0.002, **row} for row in rows]
        return {"experiment": "own", "learner": learner, "dataset": "omniglot", "test": test}

    records = {
        "a_b": record("maml", {"queries": 5, "accuracy": 0.997}, {"queries": 15, "accuracy": 0.98}),
        "c": record("maml", {"queries": 15, "accuracy": 0.985}, {"queries": 5, "accuracy": 0.9969, "norm": "support"}),
        "d": record("fomaml", {"queries": 15, "accuracy": 0.999}),
        "e": record("protonet", {"queries": 15, "accuracy": 0.9}),
        "f": record("protonet", {"queries": 15, "accuracy": 0.99, "augment": "rotations", "ensemble": 3}),
    }
    assert list(results.beside_papers(records))[1:] == [
        "| protonet | omniglot | 5, 5 | 99.7 | 99.00 ± 0.20 | no | f, 3 checkpoints | 90.00 ± 0.20 | e |",
        "| maml | omniglot | 5, 5 | 99.9 ± 0.1 | 99.70 ± 0.20 | yes | a b | 98.50 ± 0.20 | c |",
        "| fomaml | omniglot | 5, 5 | 99.2 ± 0.2 | - | no | - | 99.90 ± 0.20 | d |",
    ]


def test_an_experiment_that_is_interrupted_tests_nothing(tmp_path, monkeypatch, capsys):
    cut_off = SimpleNamespace(interrupted=True, state=SimpleNamespace(step=3))
    monkeypatch.setattr(tools, "launch", lambda *_: (cut_off, {"steps": 3, "seconds": 1.0}))
    monkeypatch.setattr(sys, "argv", ["experiment", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        tools.publish("tiny", "about", {"small": {"learner": "maml", "dataset": "glyphs", "steps": 9}})
    assert ended.value.code == 130
    assert "stopped at step 3 of 9: --resume goes on" in capsys.readouterr().err
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_record_is_filled_with_the_methods_it_lacks(tmp_path):
    asked = []

    def measure(name):
        asked.append(name)
        return {"method": name, "score": len(name)}

    file = tmp_path / "new" / "result.json"
    tools.fill_methods(file, {"experiment": "tiny"}, ["maml"], measure)
    rows = tools.fill_methods(file, {"experiment": "tiny"}, ["maml", "anil"], measure)
    assert asked == ["maml", "anil"]
    assert rows == [{"method": "maml", "score": 4}, {"method": "anil", "score": 4}]
    assert json.loads(file.read_text()) == {"experiment": "tiny", "methods": rows}


def test_one_command_measures_an_accelerator(tmp_path, monkeypatch):
    import bench_gpu

    monkeypatch.setattr(sys, "argv", ["bench_gpu", "D", "--small", "--rounds", "1", "--out", str(tmp_path)])
    bench_gpu.main()
    record = json.loads((tmp_path / "result.json").read_text())
    (row,) = record["rows"]
    assert (record["experiment"], record["device"], row["workload"], row["small"]) == ("bench_gpu", "cpu", "D", True)
    assert row["ratio"] == pytest.approx(row["peer_ms"] / row["step_ms"])
    assert [each["tasks"] for each in record["scaling"]] == [1, 2]
    assert min(each["temp_mib"] for each in record["scaling"]) > 0


def test_every_workload_s_command_is_understood():
    from peers.workloads import WORKLOADS, own_command, peer_command

    for name, workload in WORKLOADS.items():
        command = own_command(workload)
        if workload.ours is not None:
            assert cli.parse(command[3:])[1].repeats == workload.repeats, name
        assert peer_command(workload, workload.peers[0], "python")[2] == workload.learner, name


def test_a_process_that_fails_or_takes_too_long_says_so():
    from peers.processes import timed

    assert timed(sys.executable, "-c", "print('{}')") == {}
    with pytest.raises(RuntimeError, match="no such"):
        timed(sys.executable, "-c", "raise SystemExit('no such')")
    with pytest.raises(TimeoutError, match=r"not done after 0\.2 s"):
        timed(sys.executable, "-c", "import time; time.sleep(60)", limit=0.2)
