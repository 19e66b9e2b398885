"""Weights of a run for the package: measured as they will be read, in float16 where that costs nothing, with a card.

Command: python experiments/ship.py RUN NAME --about TEXT --data TEXT --not-for TEXT --commit C [--tests W,S ...]
Setting: 1,000 test episodes of 15 queries under each norm; float16 is taken where over 200 episodes of
the first size the accuracies differ from float32's by 0.05 points at most, episode by episode.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import evaluate
from mtl_jax.app import build, methods, runs, shipped
from mtl_jax.app.options import spell_option
from mtl_jax.app.settings import Settings
from mtl_jax.run.backend import configure_cpu


def main() -> None:
    """Write mtl_jax/weights/NAME.npz and NAME.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    for part in ("--about", "--data", "--not-for", "--commit"):
        parser.add_argument(part, required=True)
    parser.add_argument("--tests", nargs="+", default=["5,1"], metavar="WAYS,SHOTS")
    parser.add_argument("--episodes", type=int, default=1000)
    args = parser.parse_args()
    configure_cpu()
    settings, _, theta = runs.load_run(args.run)
    pool = runs.load_pool(settings, "test")
    halved = jax.tree.map(lambda a: np.asarray(a, np.float16).astype(np.float32), theta)
    tests, worst = [], 0.0
    for ways, shots in (map(int, size.split(",")) for size in args.tests):
        for norm in ("transductive", "support"):
            learner = build.build_learner(methods.change(settings, norm=norm), ways)
            size = {"ways": ways, "shots": shots, "queries": 15, "episodes": args.episodes}
            half = evaluate(learner, halved, pool, jax.random.key(0), **size)
            if len(tests) < 2:  # both norms of the first size
                few = size | {"episodes": min(args.episodes, 200)}
                pair = [evaluate(learner, t, pool, jax.random.key(0), **few).per_episode for t in (theta, halved)]
                worst = max(worst, float(np.abs(pair[0] - pair[1]).mean()))
            row = {"dataset": settings.task.dataset, "split": "test", **size, "norm": norm}
            tests.append(row | {"accuracy": half.accuracy, "ci95": half.ci95})
            print(tests[-1], flush=True)
    config = {**methods.given_of(settings), "init": None}
    card = {"about": args.about, "data": args.data, "not_for": args.not_for, "commit": args.commit}
    card |= {"command": command_of(settings), "seed": settings.run.seed, "steps": settings.outer.steps}
    card |= {"dtype": "float16" if worst <= 5e-4 else "float32", "tests": tests, "config": config}
    leaves = jax.tree_util.tree_leaves_with_path(theta)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(jnp.asarray(v)) for path, v in leaves}
    file = shipped.write(args.name, named, card)
    print(
        f"{file}: {file.stat().st_size / 1000:.0f} kB, {card['dtype']}, at most {100 * worst:.3f} points from float32"
    )


def command_of(settings: Settings) -> str:
    """The command that trains with these settings: what differs from the learner's defaults, after that of its init."""
    usual, given = methods.defaults_of(settings.learner), methods.given_of(settings)
    first = given.pop("init", None)
    odd = [spell_option(k, v) for k, v in given.items() if k in usual and v not in (usual[k], None)]
    text = " ".join(("mtl-jax train", settings.learner, *odd))
    return text if first is None else f"{command_of(runs.read_settings(first))} --out RUN; {text} --init RUN"


if __name__ == "__main__":
    main()
