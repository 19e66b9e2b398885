"""publish: an experiment that is one run of one setting: its options, its training, its test and its record."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_jax.run.launch import launch
from mtl_jax.run.methods import complete
from mtl_jax.run.metrics import write_json
from mtl_jax.run.report import score_run
from mtl_jax.run.setup import tune_cpu


def publish(
    name: str,
    about: str,
    settings: Mapping[str, Mapping[str, Any]],
    targets: Sequence[str | None] = (None,),
    **test: Any,
) -> None:
    """Train one of `settings` as the command line asks, test it under both norms, and leave result.json.

    Args:
        name: the experiment's.
        about: its docstring, for --help.
        settings: what `methods.complete` takes, by the name that --setting knows it by; the first is the default.
        targets: data sets to test on; that of the training unless given.
        test: settings of `score_run`; 5-way, 1 and 5 shots, 1,000 episodes of 15 queries unless given.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=tuple(settings), default=next(iter(settings)))
    parser.add_argument("--steps", type=int, help="meta-steps (default: the setting's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs") / name)
    parser.add_argument("--init", help="folder of a run whose network to start from")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    tune_cpu()
    asked = {k: v for k, v in vars(args).items() if k in ("steps", "init") and v is not None}
    config = complete({**settings[args.setting], "seed": args.seed, **asked})
    _, result = launch(config, args.out, args.resume)
    rows = [row for target in targets for row in score_run(args.out, target, **test)]
    record = {"experiment": name, "setting": args.setting, "train_seconds": result["seconds"]}
    write_json(args.out / "result.json", result | record | {"test": rows})
