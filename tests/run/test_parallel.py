"""Tasks spread over devices: the same gradient, scores and runs as on one."""

import json
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import json, sys, logging
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
jax.config.update("jax_numpy_dtype_promotion", "strict")
compiled = []
class Count(logging.Handler):
    def emit(self, r):
        compiled.append("jit(meta_steps)" in r.getMessage())
jax.config.update("jax_log_compiles", True)
logging.getLogger("jax").addHandler(Count())
logging.getLogger("jax").propagate = False
import numpy as np
from mtl_jax import ClassPool, evaluate, learners, models, train
rng = np.random.default_rng(0)
x = rng.uniform(0, 0.4, (48, 6, 6, 1)) + 0.1 * np.repeat(np.arange(6), 8)[:, None, None, None]
pool = ClassPool.from_arrays(x, np.repeat(np.arange(6), 8))
learner = learners.maml(models.mlp(3, (8,)), 0.1, 2)
size = dict(ways=3, shots=1, queries=3)
runs = [
    train(learner, pool, jax.random.key(0), tasks=4, steps=6, log_every=1, hard_tasks=hard, val_pool=pool, val_every=3,
          val_episodes=6, **size)
    for hard in (False, True)
]
seen = evaluate(learner, runs[0].theta, pool, jax.random.key(1), episodes=10, **size)
rows = [[row["loss"] for row in run.history] for run in runs]
print(json.dumps({"devices": jax.device_count(), "loss": rows, "scores": seen.per_episode.tolist(),
                  "failed": runs[1].state.failed.classes.tolist(),
                  "compiled": sum(c for c in compiled)}))
"""


def results(devices):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(devices)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def one_and_two():
    return results(1), results(2)


def test_losses_scores_and_failed_classes_agree(one_and_two):
    one, two = one_and_two
    assert (one["devices"], two["devices"]) == (1, 2)
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-5)
    np.testing.assert_allclose(two["scores"], one["scores"], atol=1e-6)
    assert two["failed"] == one["failed"]
    assert len([c for c in one["failed"] if c >= 0]) == 6 * 4


def test_the_step_compiles_once_a_run(one_and_two):
    for seen in one_and_two:
        assert seen["compiled"] == 2, seen  # one run of each kind
