"""budget: a run of as many meta-steps as fit into a time, so that methods can be compared at equal cost."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_jax.run.launch import launch
from mtl_jax.run.train import Trained

TRIAL = 30  # meta-steps, the last ten of which are timed


def launch_for(config: Mapping[str, Any], minutes: float, out: Path) -> tuple[Trained, dict[str, Any]]:
    """`launch` with the steps that fit into `minutes`, as a short trial run on this machine says; pre-training counts.

    Args:
        config: the settings that `methods.complete` gives, with "dataset"; their "steps" do not matter.
        minutes: of training in all, compilation and the trial apart.
        out: the run's folder.

    Returns:
        (Trained, what result.json holds with ms_a_step, and with the pre-training's time in its seconds).

    Raises:
        ValueError: see `launch`; or the pre-training alone takes longer.
        KeyboardInterrupt: Ctrl-C; what was done is kept, and `launch.finish` goes on with it.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = {**config, "steps": TRIAL, "log_every": 10, "val_every": TRIAL, "val_episodes": 5}
        run, _ = launch(trial, Path(folder) / "run", quiet=True)
        pace = config["tasks"] / run.history[-1]["tasks_per_s"]
        made = Path(folder) / "run" / "pretrain"
        spent = json.loads((made / "result.json").read_text())["seconds"] if made.exists() else 0.0
        steps = int((60 * minutes - spent) / pace)
        if steps < 1:
            raise ValueError(f"{minutes} minutes leave no time after {spent:.0f} s of pre-training: give more")
        whole = {**config, "steps": steps, "val_every": max(1, steps // 5)}
        run, result = launch(whole | ({"init": str(made)} if spent else {}), out)
    if run.interrupted:
        raise KeyboardInterrupt
    return run, result | {"ms_a_step": 1000 * pace, "seconds": spent + result["seconds"]}
