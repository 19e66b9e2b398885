"""Several processes as one training: the same theta as one device's, one writer, and refusals that none waits after."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest

from mtl_jax.run.processes import join_processes

SCRIPT = """
import sys, jax
devices, steps, out, coordinator, mine, processes = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
jax.config.update("jax_num_cpu_devices", devices)
jax.config.update("jax_numpy_dtype_promotion", "strict")
if int(processes) > 1:
    from mtl_jax.run.processes import join_processes
    join_processes(coordinator, int(mine), int(processes))
import numpy as np
from mtl_jax import ClassPool, evaluate, learners, models, train
from mtl_jax.run.optimizer import meta_optimizer
rng = np.random.default_rng(0)
x = rng.integers(0, 256, (60, 6, 6, 1), np.uint8)
pool = ClassPool.from_arrays(x, np.repeat(np.arange(6), 10))
learner = learners.maml(models.mlp(3, (8,)), 0.1, 2)
size = dict(ways=3, shots=1, queries=3)
try:
    run = train(learner, pool, jax.random.key(0), tasks=8, steps=steps, log_every=5, val_pool=pool, val_every=10,
                val_episodes=7, out=out, resume=steps > 10, optimizer=meta_optimizer(1e-3, 20), **size)
except ValueError as error:
    sys.exit(f"refused: {error}")
seen = evaluate(learner, run.theta, pool, jax.random.key(1), episodes=11, **size)
if jax.process_index() == 0:
    np.savez(f"{out}/theta.npz", *[np.asarray(a) for a in jax.tree.leaves(run.state.theta)], seen.per_episode)
    print(jax.device_count(), jax.process_count())
"""


def go(out, steps, devices, processes=1):
    """(exit codes, outputs of all processes) of one training over `processes` times `devices`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, "-c", SCRIPT, str(devices), str(steps), str(out), coordinator]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([*command, str(i), str(processes)], **pipes) for i in range(processes)]
    said = [process.communicate(timeout=120) for process in running]
    return [process.returncode for process in running], said


def theta(out):
    with np.load(out / "theta.npz") as file:
        return [file[name] for name in file.files]


@pytest.mark.slow
def test_one_device_four_and_two_processes_of_two_end_at_the_same_theta(tmp_path):
    """20 steps of 8 tasks: on 1 device, on 4, and on 2 x 2 that go on with what 1 x 4 began."""
    for name, steps, devices, processes in (("one", 20, 1, 1), ("two", 10, 4, 1), ("two", 20, 2, 2)):
        codes, said = go(tmp_path / name, steps, devices, processes)
        assert codes == [0] * processes, said
        assert f"{devices * processes} {processes}" in said[0][0].splitlines()
    for one, two in zip(theta(tmp_path / "one"), theta(tmp_path / "two"), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)
    rows = [json.loads(line)["step"] for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert rows == [5, 10, 15, 20]  # by one writer
    codes, said = go(tmp_path / "two", 10, 1, 2)  # not resumed: the folder holds a run
    assert codes == [1, 1]
    assert "already holds a run" in said[0][1]
    assert "another process of this training has refused" in said[1][1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("localhost:1", 0, None), "coordinator, process-id and num-processes go together: num-processes is"),
        (("localhost:1", 2, 2), r"process-id must be in 0 \.\.\. 1 of 2 processes, not 2"),
    ],
)
def test_what_does_not_name_a_process_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        join_processes(*given)
