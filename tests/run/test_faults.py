"""What a run survives: killed at any moment, damaged files, two writers, signals, updates that overflow."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import ClassPool, learners, models, train
from mtl_jax.run import checkpoint
from mtl_jax.run.checkpoint import CheckpointError
from mtl_jax.run.loop import NonFiniteError
from mtl_jax.run.optimizer import meta_optimizer

SIZES = {"ways": 3, "shots": 1, "queries": 3, "tasks": 2}
STEPS = 12
SCRIPT = """
import sys, jax, numpy as np
from mtl_jax import ClassPool, learners, models, train
from mtl_jax.run.optimizer import meta_optimizer
rng = np.random.default_rng(0)
x = rng.integers(0, 256, (48, 6, 6, 1), np.uint8)
pool = ClassPool.from_arrays(x, np.repeat(np.arange(6), 8))
print("ready", flush=True)
train(learners.protonet(models.mlp(None, (8,))), pool, jax.random.key(0), ways=3, shots=1, queries=3, tasks=2,
      steps=int(sys.argv[2]), optimizer=meta_optimizer(1e-2, 12), log_every=1, val_pool=pool, val_every=1,
      val_episodes=2, out=sys.argv[1], resume=True, callbacks=[lambda row: print(row["step"], flush=True)])
"""


@pytest.fixture(scope="module")
def pool():
    return ClassPool.from_arrays(
        np.random.default_rng(0).integers(0, 256, (48, 6, 6, 1), np.uint8), np.repeat(np.arange(6), 8)
    )


@pytest.fixture(scope="module")
def learner():
    return learners.protonet(models.mlp(None, (8,)))


def go(learner, pool, out, steps=STEPS, **given):
    often = {"log_every": 1, "val_pool": pool, "val_every": 1, "val_episodes": 2}
    rule = meta_optimizer(1e-2, STEPS)
    return train(learner, pool, jax.random.key(0), steps=steps, optimizer=rule, out=out, **often, **SIZES, **given)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def steps_logged(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_where_the_uninterrupted_run_does(learner, pool, tmp_path):
    """Every step saves, so that many of the kills fall into the writing of a checkpoint."""
    rng, out = np.random.default_rng(1), tmp_path / "run"
    for _ in range(4):
        command = [sys.executable, "-c", SCRIPT, str(out), "500"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line.strip().isdigit():
                    break
            time.sleep(rng.uniform(0, 0.6))
            process.kill()
        reached = int(max((p.name for p in (out / "checkpoints").iterdir() if p.name.isdigit()), key=int))
        assert reached >= 1
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(out), str(reached + 2)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    whole = go(learner, pool, tmp_path / "whole", reached + 2)
    state = checkpoint.restore(out / "checkpoints", whole.state)
    assert int(state.step) == reached + 2
    same(state.theta, whole.state.theta)
    assert steps_logged(out) == list(range(1, reached + 3))  # each step once


@pytest.mark.slow
def test_sigterm_saves_and_a_folder_in_use_is_refused(learner, pool, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", SCRIPT, str(out), "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "3":
                break
        with pytest.raises(ValueError, match=rf"being written by process {process.pid} on "):
            go(learner, pool, out, resume=True)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0  # Python's train gives its result: interrupted, and saved
    reached = max(steps_logged(out))
    assert (out / "checkpoints" / str(reached)).is_dir()
    rest = go(learner, pool, out, reached + 1, resume=True)
    same(rest.state.theta, go(learner, pool, tmp_path / "whole", reached + 1).state.theta)


@pytest.fixture(scope="module")
def finished(learner, pool, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    go(learner, pool, out, 4)
    return out


def largest_files(folder):
    return sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: -p.stat().st_size)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "removed"])
def test_of_a_damaged_last_checkpoint_the_one_before_is_used_and_it_says_so(
    finished, learner, pool, tmp_path, caplog, damage
):
    out = shutil.copytree(finished, tmp_path / "run")
    last = out / "checkpoints" / "4"
    assert (out / "checkpoints" / "3").is_dir()
    for file in largest_files(last)[:2]:
        {"flipped": flip, "truncated": lambda p: os.truncate(p, 20), "removed": os.unlink}[damage](file)
    rest = go(learner, pool, out, 6, resume=True)
    assert "checkpoint of step 4" in caplog.text
    assert "that of step 3 is used in its place" in caplog.text
    whole = go(learner, pool, tmp_path / "whole", 6)
    same(rest.state.theta, whole.state.theta)
    assert steps_logged(out) == [1, 2, 3, 4, 5, 6]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of orbax's own threads, at bad files
def test_no_flipped_bit_of_any_file_changes_what_is_read_in_silence(finished, learner, tmp_path, caplog):
    like = jax.eval_shape(learner.init, jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    good = {step: checkpoint.load_theta(copy_of(finished, tmp_path, step), like, best=False) for step in (4, 3)}
    for i, file in enumerate(largest_files(finished / "checkpoints" / "4")):
        out = shutil.copytree(finished, tmp_path / f"flip{i}")
        flip(out / file.relative_to(finished))
        got = checkpoint.load_theta(out / "checkpoints", like, best=False)
        assert any(all(map(np.array_equal, *map(jax.tree.leaves, (got, theta)))) for theta in good.values()), file


def copy_of(folder, tmp_path, last):
    out = shutil.copytree(folder, tmp_path / f"until{last}")
    for path in (out / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > last:
            shutil.rmtree(path)
    return out / "checkpoints"


def test_where_every_checkpoint_is_damaged_it_says_so_in_one_line(finished, learner, tmp_path):
    out = shutil.copytree(finished, tmp_path / "run")
    for file in largest_files(out / "checkpoints"):
        os.truncate(file, min(10, file.stat().st_size))
    like = jax.eval_shape(learner.init, jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    with pytest.raises(CheckpointError, match="damaged") as caught:
        checkpoint.load_theta(out / "checkpoints", like)
    assert len(str(caught.value).splitlines()) == 1


def test_a_lost_best_does_not_block_the_last(finished, learner, tmp_path, caplog):
    out = shutil.copytree(finished, tmp_path / "run")
    scores = {int(k): v["score"] for k, v in json.loads((out / "checkpoints.json").read_text()).items()}
    best = max((s for s in scores if scores[s] is not None), key=lambda s: scores[s])
    for file in largest_files(out / "checkpoints" / str(best)):
        os.truncate(file, 0)
    like = jax.eval_shape(learner.init, jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    checkpoint.load_theta(out / "checkpoints", like)
    assert "damaged" in caplog.text or "cannot be read" in caplog.text


def test_a_run_stopped_before_its_first_checkpoint_begins_again(learner, pool, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "metrics.jsonl").write_text('{"step": 1, "loss": 9.0}\n')
    rest = go(learner, pool, out, 2, resume=True)
    assert int(rest.state.step) == 2
    assert [row["step"] for row in rest.history] == [1, 2]


def test_an_update_that_overflows_is_seen_before_it_is_kept(learner, pool, key, tmp_path):
    with pytest.raises(NonFiniteError, match="theta is not finite after step 1"):
        train(learner, pool, key, steps=3, optimizer=optax.sgd(1e38), out=tmp_path / "run", **SIZES)


def test_an_ignored_interrupt_stays_ignored(learner, pool, key):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        press = [lambda row: os.kill(os.getpid(), signal.SIGINT)]
        run = train(learner, pool, key, steps=2, log_every=1, callbacks=press, **SIZES)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert not run.interrupted
    assert int(run.state.step) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "when"), [(300, "in metrics.jsonl"), (1500, "in a checkpoint")])
def test_a_full_disk_ends_the_run_and_loses_nothing_that_was_written(learner, pool, tmp_path, limit, when):
    """No file can grow from step 3 on; with room again, resuming ends where the uninterrupted run does."""
    out = tmp_path / "run"
    code = SCRIPT.replace(
        'callbacks=[lambda row: print(row["step"], flush=True)]',
        "callbacks=[lambda row: row['step'] == 3 and resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))]",
    )
    code = f"import resource, signal\nlimit = {limit}\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + code
    done = subprocess.run([sys.executable, "-c", code, str(out), "8"], capture_output=True, text=True)
    assert done.returncode == 1
    # not the last line: at its end the interpreter may report threads that were closed with it
    assert "File too large" in done.stderr, when
    kept = {int(p.name) for p in (out / "checkpoints").iterdir() if p.name.isdigit()}
    assert 3 in kept
    rest = go(learner, pool, out, 8, resume=True)
    same(rest.state.theta, go(learner, pool, tmp_path / "whole", 8).state.theta)
    assert steps_logged(out) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_folder_removed_while_it_runs_ends_the_run_in_one_line(learner, pool, tmp_path):
    out = tmp_path / "run"
    remove = [lambda row: shutil.rmtree(out)]
    with pytest.raises(FileNotFoundError, match=r"metrics\.jsonl"):
        train(learner, pool, jax.random.key(0), steps=3, log_every=1, out=out, callbacks=remove, **SIZES)
