"""Every learner's training step as an accelerator would be given it: lowered for CUDA and TPU, and looked at."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import ClassPool
from mtl_jax.data.batches import batch_classes, sample_batch
from mtl_jax.run.evaluate import episode_sampler
from mtl_jax.run.methods import METHODS, complete, find, over_the_run
from mtl_jax.run.optimizer import freeze
from mtl_jax.run.setup import build_optimizer
from mtl_jax.run.step import meta_steps
from mtl_jax.types import Learner, TrainState

TASKS = 4


def text_of(name, pool):
    """The StableHLO of three meta-steps on a small conv4, all tasks at a time, for both platforms."""
    config = complete({"learner": name, "width": 4, "ways": 3, "queries": 2, "steps": 9, "classes": pool.classes})
    config |= {"classes": batch_classes(pool, "none")} if find(name).batches else {}
    learner = over_the_run(config)
    final = learner if isinstance(learner, Learner) else learner(0)
    sample = _batch if find(name).batches else episode_sampler(3, config["shots"], config["queries"])
    key = jax.random.key(0)
    theta = jax.eval_shape(final.init, key, jax.eval_shape(sample, key, pool).support_x)
    rule = freeze(build_optimizer(config), theta)

    def step(theta, pool):
        state = TrainState(theta, rule.init(theta), jnp.int32(0), jax.random.key(0))
        return meta_steps(learner, sample, rule, TASKS, TASKS, state, pool, jnp.int32(3))[0].theta

    return jax.export.export(jax.jit(step), platforms=("cuda", "tpu"))(theta, pool).mlir_module()


def _batch(key, pool):
    return sample_batch(key, pool, size=8)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_holds_no_grouped_convolution_no_callback_and_no_double(name):
    images = np.zeros((4 * 12, 16, 16, 1), np.uint8)
    text = text_of(name, ClassPool.from_arrays(images, np.repeat(np.arange(4), 12)))
    assert "stablehlo.while" in text  # it is the whole step
    assert "stablehlo.dot_general" in text
    assert not re.search(r"feature_group_count = ([2-9]|1\d)|batch_group_count = ([2-9]|1\d)", text)
    assert not re.search(r"custom_call @\w*callback", text)
    assert not re.search(r"tensor<([^>]*x)?f64>", text)
    assert "stablehlo.all_reduce" not in text  # one device has nothing to sum


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
