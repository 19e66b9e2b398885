"""Tasks spread over devices: the same gradient, scores and runs as on one."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from mtl_jax.run import parallel

SCRIPT = """
import json, sys, logging
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
jax.config.update("jax_numpy_dtype_promotion", "strict")
compiled = []
class Count(logging.Handler):
    def emit(self, r):
        compiled.append("Compiling jit(take_steps)" in r.getMessage())
jax.config.update("jax_log_compiles", True)
logging.getLogger("jax").addHandler(Count())
logging.getLogger("jax").propagate = False
import numpy as np
from mtl_jax import ClassPool, evaluate, learners, models, train
from mtl_jax.data.sources import hard_tasks
rng = np.random.default_rng(0)
x = rng.uniform(0, 0.4, (48, 6, 6, 1)) + 0.1 * np.repeat(np.arange(6), 8)[:, None, None, None]
pool = ClassPool.from_arrays(x, np.repeat(np.arange(6), 8))
learner = learners.maml(models.mlp(3, (8,)), 0.1, 2)
size = dict(ways=3, shots=1, queries=3)
run = train(learner, pool, jax.random.key(0), tasks=11, steps=8, log_every=1, val_pool=pool,
            source=hard_tasks(tasks=11, every=2, **size), val_every=3, val_episodes=7, **size)
seen = evaluate(learner, run.theta, pool, jax.random.key(1), episodes=11, **size)
print(json.dumps({"devices": jax.device_count(), "loss": [row["loss"] for row in run.history],
                  "scores": seen.per_episode.tolist(), "failed": run.state.tasks.classes.tolist(),
                  "compiled": sum(c for c in compiled)}))
"""


def results(devices):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(devices)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_devices_do_what_one_does_and_compile_the_step_once():
    """Of 11 tasks, which two devices do not divide."""
    one, two = results(1), results(2)
    assert (one["devices"], two["devices"]) == (1, 2)
    assert (one["compiled"], two["compiled"]) == (1, 1)
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-5)
    np.testing.assert_allclose(two["scores"], one["scores"], atol=1e-6)
    assert two["failed"] == one["failed"]
    assert len([c for c in one["failed"] if c >= 0]) == 2 * 11  # two random steps after the second hard one


@pytest.mark.parametrize(
    ("tasks", "devices", "share"), [(1, 4, None), (2, 4, 2), (4, 4, 4), (5, 4, 3), (7, 4, 4), (25, 4, 4), (601, 8, 8)]
)
def test_the_fullest_device_has_as_few_tasks_as_can_be(monkeypatch, tasks, devices, share):
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices() * devices)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(parallel, "Mesh", lambda chosen, axes: len(chosen))
    assert parallel.task_mesh.__wrapped__(tasks) == share
    if share:
        assert -(-tasks // share) == -(-tasks // devices)


@pytest.mark.parametrize("first", ["", "import scipy.linalg"])
def test_where_cores_are_devices_blas_has_one_thread(first):
    code = f"{first}\nfrom mtl_jax.run.backend import configure_cpu\nconfigure_cpu()\nimport jax, threadpoolctl\n"
    code += "jax.block_until_ready(jax.numpy.linalg.qr(jax.numpy.ones((3, 2)))[1])\nimport scipy.linalg\n"
    code += "of = [lib['num_threads'] for lib in threadpoolctl.threadpool_info() if 'scipy.libs' in lib['filepath']]\n"
    code += "assert of and set(of) == {1}, threadpoolctl.threadpool_info()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]


@pytest.mark.parametrize(
    ("tasks", "devices", "share"), [(5, 2, None), (5, 4, None), (4, 2, 2), (25, 2, 2), (601, 8, 8)]
)
def test_on_a_cpu_copies_cost_a_tenth_at_most(monkeypatch, tasks, devices, share):
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices() * devices)
    monkeypatch.setattr(parallel, "Mesh", lambda chosen, axes: len(chosen))
    assert parallel.task_mesh.__wrapped__(tasks) == share
