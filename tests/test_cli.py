"""mtl-jax as people run it: on a tiny folder of images, from training to pictures, and every bad input."""

import csv
import json
import os
import shutil
import signal
import sys

import jax
import numpy as np
import pytest
from command_line import mtl_jax
from jax.experimental.compilation_cache import compilation_cache
from PIL import Image

from mtl_jax import evaluate
from mtl_jax.app import load_run, methods, runs
from mtl_jax.data.images import cache_folder
from mtl_jax.run import progress

CLASSES, IMAGES = 4, 6
TINY = "--ways 3 --queries 2 --tasks 2 --width 4 --image-size 16 --schedule constant"
OFTEN = "--val-every 2 --val-episodes 4 --log-every 1"
SMALL = [*TINY.split(), *OFTEN.split()]


@pytest.fixture(autouse=True, scope="module")
def _leave_jax_as_it_was():
    """The command line turns the compilation cache on for its process: here that is the tests'."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of classes that differ plainly: noise that is bright in one quarter; the same for every split."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for k in range(CLASSES):
        (root / f"class{k}").mkdir()
        for i in range(IMAGES):
            x = rng.integers(0, 100, (2, 8, 2, 8), np.uint8)
            x[k // 2, :, k % 2] += 155
            Image.fromarray(x.reshape(16, 16)).save(root / f"class{k}" / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run of three steps; tests copy it before they change it."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert mtl_jax("train", "protonet", "--dataset", f"folder:{data}", "--steps", 3, "--out", out, *SMALL) == 0
    return out


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_a_run_leaves_what_rebuilds_it(trained, data):
    config = json.loads((trained / "config.json").read_text())
    assert config["dataset"] == f"folder:{data}"
    assert config["image_shape"] == [16, 16, 1]
    assert set(config) == {*methods.defaults_of("protonet"), "learner", "image_shape", "input_dtype"}
    result = json.loads((trained / "result.json").read_text())
    rows = rows_of(trained)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert result["steps"] == 3
    assert result["val_accuracy"] == max(row["val_accuracy"] for row in rows if "val_accuracy" in row)
    assert any((cache_folder() / "xla").iterdir())  # programs are kept for the next start


def test_eval_prints_one_json_object(trained, capfd):
    args = ("eval", trained, "--episodes", 5, "--json")
    assert mtl_jax(*args) == 0
    first = json.loads(capfd.readouterr().out)
    keys = "learner dataset split ways shots queries inner_steps norm episodes accuracy ci95 seed"
    assert sorted(first) == sorted(keys.split())
    assert (first["ways"], first["queries"], first["episodes"], first["seed"]) == (3, 2, 5, 0)
    assert 0 <= first["accuracy"] <= 1
    assert mtl_jax(*args, "--ways", 4, "--norm", "support") == 0
    other = json.loads(capfd.readouterr().out)
    assert (other["ways"], other["norm"]) == (4, "support")


def test_the_best_step_is_read_back(trained):
    run, result = load_run(trained), json.loads((trained / "result.json").read_text())
    val_key = jax.random.split(jax.random.key(run.settings.run.seed), 3)[2]
    pool = runs.load_pool(run.settings, "val")
    seen = evaluate(run.learner, run.theta, pool, val_key, ways=3, shots=1, queries=2, episodes=4)
    assert (seen.accuracy, seen.ci95) == (result["val_accuracy"], result["val_ci95"])


def test_without_validation_the_last_step_is_read(data, tmp_path, capfd):
    shutil.copytree(data, tmp_path / "data" / "train")
    out = tmp_path / "run"
    assert mtl_jax("train", "protonet", "--dataset", f"folder:{tmp_path}/data", "--steps", 2, "--out", out, *SMALL) == 0
    assert json.loads((out / "result.json").read_text())["val_accuracy"] is None
    capfd.readouterr()
    assert mtl_jax("eval", out, "--split", "train", "--episodes", 5, "--json") == 0
    assert json.loads(capfd.readouterr().out)["split"] == "train"


def test_resume_may_change_the_number_of_steps(run):
    assert mtl_jax("train", "protonet", "--out", run, "--resume", "--steps", 4) == 0
    for name in ("result.json", "config.json"):
        assert json.loads((run / name).read_text())["steps"] == 4
    assert [row["step"] for row in rows_of(run)] == [1, 2, 3, 4]


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def interruptible():
    """Ctrl-C as a terminal gives it: what a shell starts in the background ignores it from the start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_saves_and_the_command_it_names_goes_on(trained, data, tmp_path, monkeypatch, capfd, interruptible):
    shown = progress.Progress.__call__

    def press(self, row):
        shown(self, row)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress.Progress, "__call__", press)
    out = tmp_path / "run"
    args = ("train", "protonet", "--dataset", f"folder:{data}", "--steps", 3, "--out", out, *SMALL)
    assert mtl_jax(*args) == 130
    line = capfd.readouterr().err.splitlines()[-1]
    assert "after step 1" in line
    monkeypatch.undo()
    assert mtl_jax(*line.split(": mtl-jax ")[-1].split()) == 0
    losses = [[row["loss"] for row in rows_of(folder)] for folder in (out, trained)]
    assert losses[0] == losses[1]  # as if it had never stopped


def test_a_run_that_diverges_ends_with_status_1(data, tmp_path, capfd):
    out = tmp_path / "run"
    wild = ("--meta-lr", "1e30", "--clip", 0, "--norm", "none")
    args = ("train", "protonet", "--dataset", f"folder:{data}", "--steps", 3, "--out", out, *SMALL, *wild)
    assert mtl_jax(*args) == 1
    assert "theta is not finite after step 1" in capfd.readouterr().err.splitlines()[-1]


def test_plot_draws_curve_and_episode(run, trained, tmp_path, capsys):
    assert mtl_jax("plot", run) == 0
    assert capsys.readouterr().out.split() == [str(run / "learning_curve.png"), str(run / "episode.png")]
    for name in ("learning_curve.png", "episode.png"):
        with Image.open(run / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    assert mtl_jax("plot", run, trained, "--out", tmp_path / "both.png") == 0
    assert (tmp_path / "both.png").is_file()


def test_plot_draws_accuracy_over_shots(trained, tmp_path, capsys):
    out = tmp_path / "shots.svg"
    assert mtl_jax("plot", trained, "--against", "shots=1,2", "--episodes", 4, "--out", out) == 0
    assert capsys.readouterr().out.split() == [str(out)]
    assert "<svg" in out.read_text()


def test_predict_names_the_class_of_each_image(trained, data, tmp_path, capsys):
    support, query = tmp_path / "support", tmp_path / "query"
    query.mkdir()
    for k in range(CLASSES):
        (support / f"class{k}").mkdir(parents=True)
        for i in range(IMAGES - 1 - k):  # ragged
            shutil.copy(data / f"class{k}" / f"{i}.png", support / f"class{k}")
        shutil.copy(data / f"class{k}" / "0.png", query / f"q{k}.png")
    table = tmp_path / "out.csv"
    assert mtl_jax("predict", trained, "--support", support, "--query", query, "--csv", table) == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["file"] for row in rows] == [str(query / f"q{k}.png") for k in range(CLASSES)]
    assert sum(row["class"] == f"class{k}" for k, row in enumerate(rows)) >= CLASSES - 1
    assert all(1 / CLASSES <= float(row["probability"]) <= 1 for row in rows)
    capsys.readouterr()
    files = sorted(query.iterdir())
    assert mtl_jax("predict", trained, "--support", support, "--query", *files, "--norm", "support") == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [str(f) for f in files]


NEW = "train protonet --image-size 16 --width 4 --steps 1 --out {tmp}/new "
BAD = {  # name: (command, what the line must say)
    "learner": ("train nonsense --dataset glyphs", "protonet"),
    "mistyped learner": ("train ProtoNet --dataset glyphs", "did you mean 'protonet'?"),
    "mistyped command": ("trian protonet --dataset glyphs", "did you mean 'train'?"),
    "no learner": ("train --dataset glyphs", "choose one of maml"),
    "another learner's option": ("train protonet --dataset glyphs --inner-steps 50", "--distance"),
    "mistyped option": ("train protonet --dataset glyphs --querys 5", "did you mean --queries?"),
    "no test steps": ("train finetune --dataset glyphs --test-steps 7", "no option --test-steps"),
    "absurd tasks": ("train protonet --dataset glyphs --tasks 1000000000", "at most 1000000"),
    "absurd steps": ("train protonet --dataset glyphs --steps 1000000000000", "at most 1000000000"),
    "another network's": (NEW + "--dataset glyphs --model resnet12 --downsample stride", "conv4's"),
    "option": ("train protonet --dataset glyphs --wayz 3", "--wayz"),
    "no data set": (NEW, "--dataset"),
    "data set": (NEW + "--dataset nonsense", "omniglot"),
    "folder": (NEW + "--dataset folder:{tmp}/absent", "absent"),
    "empty folder": (NEW + "--dataset folder:{tmp}/empty", "sub-folders"),
    "no train split": (NEW + "--dataset digits", "choose one of test"),
    "ways": (NEW + "--dataset folder:{data} --queries 2 --ways 5", "at most 4"),
    "images": (NEW + "--dataset folder:{data} --ways 3 --shots 2 --queries 5", "at most 6"),
    "zero": (NEW + "--dataset folder:{data} --shots 0", "at least 1"),
    "negative": (NEW + "--dataset folder:{data} --tasks -1", "at least 1"),
    "rate": (NEW + "--dataset folder:{data} --meta-lr nan", "nan"),
    "fomaml of order 2": ("train fomaml --dataset folder:{data} --order 2", "no option --order"),
    "not prepared": (NEW + "--dataset omniglot", "TFDS_DATA_DIR"),
    "class of corrupt images": (NEW + "--dataset folder:{tmp}/corrupt --ways 1 --queries 1", "runs empty"),
    "out holds a run": ("train protonet --dataset folder:{data} --out {run}", "--resume"),
    "nothing to resume": ("train protonet --out {tmp}/new --resume", "{tmp}/new"),
    "resume without out": ("train protonet --resume", "--out"),
    "other settings": ("train protonet --out {run} --resume --width 8", "width 4 there and 8 here"),
    "fewer steps": ("train protonet --out {run} --resume --steps 2", "at step 3 already"),
    "other learner": ("train maml --out {run} --resume", "learner protonet there and maml here"),
    "eval of no run": ("eval {tmp}/empty", "config.json"),
    "eval ways": ("eval {run} --ways 9 --episodes 2", "at most 4"),
    "empty checkpoints": ("eval {tmp}/hollow", "checkpoint"),
    "truncated": ("eval {tmp}/truncated", "damaged"),
    "another model": ("eval {tmp}/other", "another model"),
    "head of other ways": ("eval {tmp}/headed --ways 4", "head of 3 ways"),
    "broken config": ("eval {tmp}/broken", "damaged"),
    "predict support": ("predict {run} --support {tmp}/absent --query {data}", "absent"),
    "predict query": ("predict {run} --support {data} --query {tmp}/absent.png", "absent.png"),
    "predict csv": ("predict {run} --support {data} --query {data}/class0 --csv {tmp}/absent/x.csv", "absent"),
    "small to pool": ("bench protonet --image 8x8x1 --tasks 1", "16x16"),
    "prepare unknown": ("datasets prepare nonsense", "glyphs"),
    "plot of no run": ("plot {tmp}/empty", "metrics"),
    "plot of another format": ("plot {run} --out {tmp}/a.jpg", ".svg"),
    "plot over what is no setting": ("plot {run} --against width=1,2", "inner_steps"),
    "plot of steps that there are none of": ("plot {run} --against inner_steps=1,2", "without gradient steps"),
    "episodes of a learning curve": ("plot {run} --episodes 5", "--against"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_with_one_line(name, trained, data, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    (tmp_path / "empty").mkdir()
    spoil(trained, tmp_path)
    places = {"tmp": tmp_path, "data": data, "run": trained}
    command, expected = (text.format(**places) for text in BAD[name])
    before = sorted(tmp_path.rglob("*"))
    capfd.readouterr()
    assert mtl_jax(*command.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("mtl-jax: error: ")
    assert expected in line
    assert sorted(tmp_path.rglob("*")) == before  # nothing half-written


def spoil(trained, folder):
    """Runs of which something is wrong, and a class of files that are no images."""
    for name in ("hollow", "truncated", "other", "broken"):
        shutil.copytree(trained, folder / name)
    shutil.rmtree(folder / "hollow" / "checkpoints")
    (folder / "hollow" / "checkpoints").mkdir()
    for file in (folder / "truncated" / "checkpoints").rglob("*"):
        if file.is_file() and file.stat().st_size > 2000:
            os.truncate(file, 100)
    config = json.loads((folder / "other" / "config.json").read_text())
    (folder / "other" / "config.json").write_text(json.dumps(config | {"width": 8}))
    (folder / "headed").mkdir()
    headed = {k: v for k, v in config.items() if k not in ("distance", "temperature")}
    (folder / "headed" / "config.json").write_text(json.dumps(headed | {"learner": "maml", "order": 2}))
    (folder / "broken" / "config.json").write_text('{"learner": "protonet", ')
    for name in ("good", "bad"):
        (folder / "corrupt" / name).mkdir(parents=True)
    Image.new("L", (16, 16)).save(folder / "corrupt" / "good" / "0.png")
    (folder / "corrupt" / "bad" / "0.png").write_bytes(b"not an image")


def test_waits_are_announced_on_a_terminal_alone(trained, monkeypatch, capsys):
    asked = ("eval", trained, "--episodes", 2, "--json")
    assert mtl_jax(*asked) == 0
    assert "compiling" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert mtl_jax(*asked) == 0
    out, err = capsys.readouterr()
    assert "mtl-jax: compiling and scoring 2 episodes of" in err
    assert json.loads(out)["episodes"] == 2
