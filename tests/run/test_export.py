"""Every learner's training step as an accelerator would be given it: lowered for CUDA and TPU, and looked at."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import ClassPool
from mtl_jax.app.build import over_the_run
from mtl_jax.app.methods import METHODS, find_method, resolve_settings
from mtl_jax.data import sources
from mtl_jax.data.batches import batch_classes
from mtl_jax.run.evaluate import compiled_scores
from mtl_jax.run.optimizer import freeze, meta_optimizer
from mtl_jax.run.step import compiled_steps
from mtl_jax.types import Learner, TrainState

TASKS = 4
# What a platform's own library solves on the device (QR of r2d2 and simple-cnaps); any other call may leave it.
ON_DEVICE = {"Qr", "ProductOfElementaryHouseholderReflectors", "cusolver_geqrf_ffi", "cusolver_orgqr_ffi"}


def leaves_the_device(text):
    """What in a program's text calls Python, or sends to the host or takes from it."""
    calls = set(re.findall(r"custom_call\s*@(\w+)", text)) - ON_DEVICE
    return sorted(calls | set(re.findall(r"stablehlo\.(\w*feed|send|recv)\b", text)))


def text_of(name, pool):
    """The StableHLO of three meta-steps on a small conv4, all tasks at a time, for both platforms."""
    settings = resolve_settings({"learner": name, "width": 4, "ways": 3, "queries": 2, "steps": 9})
    source = sources.episodes(3, settings.task.shots, 2)
    if find_method(name).trains_on == "batches":
        settings = replace(settings, task=replace(settings.task, classes=batch_classes(pool, "none")))
        source = sources.class_batches(8)
    learner = over_the_run(settings)
    final = learner if isinstance(learner, Learner) else learner(0)
    key = jax.random.key(0)
    theta = jax.eval_shape(final.init, key, jax.eval_shape(source.draw, key, (), pool).support_x)
    rule = freeze(meta_optimizer(1e-3, 9), theta)

    def step(theta, pool):
        state = TrainState(theta, rule.init(theta), jnp.int32(0), jax.random.key(0))
        return compiled_steps(learner, source, rule, TASKS, TASKS)(state, pool, jnp.int32(3))[0].theta

    return jax.export.export(jax.jit(step), platforms=("cuda", "tpu"))(theta, pool).mlir_module()


@pytest.mark.parametrize("name", METHODS)
def test_a_step_holds_no_grouped_convolution_no_callback_and_no_double(name):
    images = np.zeros((4 * 12, 16, 16, 1), np.uint8)
    text = text_of(name, ClassPool.from_arrays(images, np.repeat(np.arange(4), 12)))
    assert "stablehlo.while" in text  # it is the whole step
    assert "stablehlo.dot_general" in text
    assert not re.search(r"feature_group_count = ([2-9]|1\d)|batch_group_count = ([2-9]|1\d)", text)
    assert leaves_the_device(text) == []
    assert not re.search(r"tensor<([^>]*x)?f64>", text)
    assert "stablehlo.all_reduce" not in text  # one device has nothing to sum


@pytest.mark.parametrize("call", [jax.pure_callback, jax.experimental.io_callback, jax.debug.callback])
def test_what_calls_python_is_seen(call):
    def told(x):
        if call is jax.debug.callback:
            call(print, x)
            return x
        return call(lambda a: a, jax.ShapeDtypeStruct((3,), "float32"), x)

    assert leaves_the_device(jax.jit(told).lower(jnp.ones(3)).as_text())


@pytest.mark.parametrize("name", ["maml", "protonet"])
def test_an_evaluation_stays_on_the_device(name):
    settings = resolve_settings({"learner": name, "width": 4, "ways": 3, "queries": 2})
    learner, source = over_the_run(settings), sources.episodes(3, 1, 2)
    pool = ClassPool.from_arrays(np.zeros((48, 16, 16, 1), np.uint8), np.repeat(np.arange(4), 12))
    key = jax.random.key(0)
    theta = jax.eval_shape(learner.init, key, jax.ShapeDtypeStruct((1, 16, 16, 1), "float32"))
    scores = compiled_scores(learner, source, 8, 8)
    text = jax.export.export(scores, platforms=("cuda", "tpu"))(theta, pool, key).mlir_module()
    assert "stablehlo.dot_general" in text
    assert leaves_the_device(text) == []


def test_over_two_devices_a_step_holds_one_all_reduce():
    script = f"""
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from test_export import text_of
from mtl_jax import ClassPool
pool = ClassPool.from_arrays(np.zeros((48, 16, 16, 1), np.uint8), np.repeat(np.arange(4), 12))
for name in ("maml", "protonet", "finetune"):
    text = text_of(name, pool)
    print(text.count("stablehlo.all_reduce"), text.count("all_gather"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["1 0"] * 3
