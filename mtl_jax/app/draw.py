"""The command plot: learning curves, an episode with what was predicted, accuracy over a setting, transfer matrices."""

import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl_jax.app import methods, options, runs
from mtl_jax.app.options import Parser

AGAINST = ("shots", "inner_steps", "ways")
EPISODES = 200


def plot_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax plot`."""
    about = "folders of runs, of several seeds' runs, or of a transfer matrix"
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN", help=about)
    parser.add_argument("--out", type=Path, help="PNG or SVG file (default: learning_curve.png in the run's folder)")
    parser.add_argument("--format", choices=("png", "svg"), help="default: by the name of --out, else png")
    text = "draw test accuracy over shots, inner_steps or ways, such as shots=1,2,5"
    parser.add_argument("--against", metavar="NAME=V1,V2,...", help=text)
    count = options.count("episodes")
    text = f"of each figure of --against (default: {EPISODES})"
    parser.add_argument("--episodes", type=count, metavar="N", help=text)


def plot(args: Namespace) -> None:
    """Draw the learning curves of runs; of a single run, also an episode."""
    asked = None if args.against is None else parse_against(args.against)
    if args.episodes is not None and asked is None:
        raise ValueError("--episodes is of --against: a learning curve has no test episodes")
    single = args.folders[0] if len(args.folders) == 1 else None
    cells = None if single is None else runs.read_result(single).get("cells")
    if cells is not None and asked is not None:
        raise ValueError(f"{single} holds a transfer matrix: leave --against out")
    name = "transfer" if cells is not None else f"accuracy_{asked[0]}" if asked else "learning_curve"
    out = _out(args, name, single)
    from mtl_jax.app import grids, plot

    if cells is not None:
        grids.transfer_matrix(cells, out)
    elif asked:
        _plot_setting(args.folders, *asked, args.episodes or EPISODES, out)
    else:
        plot.learning_curve(args.folders, out)
    print(out)
    if single is not None and cells is None and not asked and (single / "config.json").exists():
        _plot_episode(single, out.with_name(f"episode{out.suffix}"))


def parse_against(text: str) -> tuple[str, list[int]]:
    """("shots", [1, 5]) of "shots=1,5".

    Raises:
        ValueError: not of that form, or a setting that accuracy is not drawn over.
    """
    match = re.fullmatch(r"([a-z_-]+)=(\d{1,6}(?:,\d{1,6})*)", text, re.ASCII)
    name = match[1].replace("-", "_") if match else ""
    values = sorted({int(v) for v in match[2].split(",")}) if match else []
    if not match or name not in AGAINST or 0 in values:
        names = ", ".join(AGAINST)
        raise ValueError(
            f"cannot draw accuracy against {text}: want NAME=V1,V2,... with NAME one of {names}, V at least 1"
        )
    return name, values


def _out(args: Namespace, name: str, single: Path | None) -> Path:
    out = args.out or Path(f"{name}s" if single is None and name == "learning_curve" else name)
    if args.out is None:
        out = (single / out if single else out).with_suffix(f".{args.format or 'png'}")
    from mtl_jax.app.plot import format_of

    if args.format not in (None, format_of(out)):
        raise ValueError(f"--format {args.format} and --out {out.name} disagree: leave --format out")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"no folder {out.parent}: give a run's folder, and --out in one that exists")
    return out


def _plot_setting(folders: Sequence[Path], name: str, values: Sequence[int], episodes: int, out: Path) -> None:
    """Test every run at every value, on the same episodes, and draw it."""
    import jax

    from mtl_jax.app import plot
    from mtl_jax.app.build import build_learner
    from mtl_jax.run.evaluate import evaluate

    curves: dict[str, list[tuple[int, float, float]]] = {}
    tasks = set()
    for folder in folders:
        settings = runs.read_settings(folder)
        theta, pool, task = runs.load_theta(folder, settings), runs.load_pool(settings, "test"), settings.task
        size = {"ways": task.ways, "shots": task.shots, "queries": task.queries}
        points = curves.setdefault(str(folder) if folder.name in curves else folder.name, [])
        for value in values:
            changed = methods.with_test_steps(settings, value) if name == "inner_steps" else settings
            of_value: dict[str, Any] = size if name == "inner_steps" else size | {name: value}
            print(f"{folder}: {name.replace('_', ' ')} {value}, {episodes} episodes ...", file=sys.stderr)
            learner = build_learner(changed, of_value["ways"])
            seen = evaluate(learner, theta, pool, jax.random.key(0), **of_value, episodes=episodes)
            points.append((value, seen.accuracy, seen.ci95))
        fixed = ", ".join(f"{v} {k}" for k, v in size.items() if k != name)
        tasks.add(f"{fixed}, {episodes} episodes of {task.dataset} (test), norm {settings.network.norm}")
    plot.setting_curve(name, curves, "\n".join(sorted(tasks)), out)


def _plot_episode(folder: Path, out: Path) -> None:
    """Draw an episode of a run's last split, with what the run predicts where it can."""
    import jax
    import numpy as np

    from mtl_jax import datasets, sample_episode
    from mtl_jax.app import grids
    from mtl_jax.app.build import build_learner

    settings = runs.read_settings(folder)
    task = settings.task
    try:
        pool = runs.load_pool(settings, datasets.info(str(task.dataset)).splits[-1])
    except (ValueError, OSError) as error:  # the curve needs no data; they may be on another machine
        return _left_out("picture of an episode", error)
    if len(pool.input_shape) != 3:
        return _left_out("picture of an episode", f"its inputs of shape {pool.input_shape} are no images")
    ways, shots = min(task.ways, pool.classes, 10), min(task.shots, pool.smallest - 1, 10)
    queries = min(task.queries, pool.smallest - shots, 10)
    episode = sample_episode(jax.random.key(settings.run.seed), pool, ways, shots, queries)
    predicted = None
    try:
        learner, theta = build_learner(settings, ways), runs.load_theta(folder, settings)
        phi = learner.adapt(theta, episode.support_x, episode.support_y)
        predicted = np.asarray(learner.predict(theta, phi, episode.query_x)).argmax(-1)
    except (ValueError, OSError) as error:  # no checkpoint yet, or a head of other ways
        _left_out("predictions in the picture of an episode", error)
    grids.episode_grid(episode, out, predicted)
    print(out)


def _left_out(what: str, why: object) -> None:
    print(f"mtl-jax: no {what}: {' '.join(str(why).split())}", file=sys.stderr)
