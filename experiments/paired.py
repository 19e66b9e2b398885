"""Methods compared on the same test episodes, seed by seed: how each is trained and scored, and what gaps there are."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tools import commit, one_line, parse_seeds

from mtl_jax import Learner, evaluate
from mtl_jax.app.build import build_learner
from mtl_jax.app.launch import start_from, train_or_resume
from mtl_jax.app.methods import change, resolve_settings
from mtl_jax.app.runs import load_pool, load_run, load_theta, read_settings
from mtl_jax.app.settings import Settings
from mtl_jax.run.backend import configure_cpu
from mtl_jax.run.metrics import over_shared_episodes, write_json
from mtl_jax.run.train import clear_compiled
from mtl_jax.types import PyTree

EPISODES = 1000  # of `score_episodes`
HEADS = {"baseline": "logistic", "linear head": "linear"}  # fitted to a network as it is: how their rows are called


def publish_from_one(
    name: str, about: str, settings: Mapping[str, Mapping[str, Any]], kinds: Mapping[str, Mapping[str, Any]]
) -> None:
    """Train each of `kinds` from one network, seed by seed, and leave result.json: do they gain on it as it is?

    Its rows, over the same 1,000 episodes for all: HEADS, each fitted to every task on the network of --init as it is;
    "untrained", the setting's learner at its start, from which training is to gain; the kinds, over seeds; and all gaps
    between a kind and what stands before it, paired.

    Args:
        name: the experiment's.
        about: its docstring, for --help.
        settings: as in `publish`; "shots" are also those of the test.
        kinds: what a run has besides the setting, by the name of its row.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=tuple(settings), default=next(iter(settings)))
    parser.add_argument("--init", required=True, help="folder of the pre-trained network's run")
    parser.add_argument("--out", type=Path, default=Path("runs") / name)
    args = parse_seeds(parser, [0, 1, 2])
    configure_cpu()
    shared = {**settings[args.setting], "init": args.init}
    with one_line(parser):
        start, wanted = read_settings(args.init), resolve_settings(shared)
        found, asked = of_network(start), of_network(wanted)
        if start.learner not in ("finetune", "rfs") or found != asked:
            raise ValueError(f"{args.init} is {start.learner} on {found}: give finetune or rfs on {asked}")
        theta, shots = load_theta(args.init, start), shared.get("shots", 1)
        fitted = {
            row: (build_learner(change(start, learner="finetune", head=head), 5), theta) for row, head in HEADS.items()
        }
        fresh = change(wanted, image_shape=start.task.image_shape, input_dtype=start.task.input_dtype)
        fitted["untrained"] = (build_learner(fresh, 5), start_from(fresh, args.init))
    seen: dict[str, list[np.ndarray]] = {}
    of = {"init": args.init, "steps": start.outer.steps, "shots": shots, "method": dict(wanted.method)}
    for row, (learner, at) in fitted.items():
        path = args.out / f"{row.replace(' ', '-')}.json"
        seen[row] = [keep_scores(path, of, partial(score_episodes, learner, at, start, shots))]
    record = {"experiment": name, "dataset": start.task.dataset, "setting": args.setting, "commit": commit()}
    record |= {"norm": "transductive", "episodes": EPISODES, "shots": shots}
    pairs = [(kind, before) for k, kind in enumerate(kinds) for before in (*fitted, *list(kinds)[:k])]
    for seed in args.seeds:
        for kind, own in kinds.items():
            folder = args.out / f"seed{seed}" / kind.replace(" ", "-")
            seen.setdefault(kind, []).append(train_and_score({**shared, **own, "seed": seed}, folder, shots))
        write_rows(args.out / "result.json", record, seen, pairs)


def of_network(settings: Settings) -> str:
    """What a network is of, by which it suits a setting: data set, pixels of a side, model and width."""
    size = f" at {settings.task.image_size} pixels" if settings.task.image_size else ""
    return f"{settings.task.dataset}{size} by {settings.network.model} of width {settings.network.width}"


def write_rows(
    path: Path,
    record: Mapping[str, Any],
    scores: Mapping[str, Sequence[np.ndarray]],
    pairs: Iterable[tuple[str, str]],
) -> None:
    """Write and print a row for each method's scores, and for each of those gaps whose two methods are there.

    Args:
        path: the record, a JSON file.
        record: what it says beside its rows.
        scores: by method, those of each seed [EPISODES]; a method of one network is set beside every seed of another.
        pairs: (method, the one to subtract from it).
    """
    gaps = {f"{a} - {b}": np.subtract(scores[a], scores[b]) for a, b in pairs if {a, b} <= scores.keys()}
    rows = {row: over_shared_episodes(values) for row, values in ({**scores, **gaps}).items()}
    write_json(path, {**record, **rows})
    for row, of in rows.items():
        said = f"{100 * of['mean']:.2f} ± {100 * of['ci95']:.2f} % over episodes"
        print(f"{row}: {said}, seeds {of['seeds']}", flush=True)


def train_and_score(given: Mapping[str, Any], folder: Path, shots: int = 1) -> np.ndarray:
    """Train a run in `folder`, or go on with it, or take what is there; its best validation's `score_episodes`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    train_or_resume(resolve_settings(given), folder)
    clear_compiled()  # the last network's programs
    run = load_run(folder)
    measure = partial(score_episodes, run.learner, run.theta, run.settings, shots)
    return keep_scores(folder / "scores.json", {"steps": run.settings.outer.steps, "shots": shots}, measure)


def keep_scores(path: Path, of: Mapping[str, Any], measure: Callable[[], np.ndarray]) -> np.ndarray:
    """What `measure` gives [episodes]; kept in a JSON file, and taken from it the next time if that is of the same."""
    of = {**of, "episodes": EPISODES}
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if kept.get("of") != of:
        kept = {"of": of, "per_episode": measure().tolist()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, kept)
    return np.array(kept["per_episode"])


def score_episodes(learner: Learner, theta: PyTree, settings: Settings, shots: int = 1) -> np.ndarray:
    """Accuracy of each test episode [EPISODES], 5 ways and 15 queries, the same for all of one data set."""
    pool = load_pool(settings, "test")
    size = {"ways": 5, "shots": shots, "queries": 15, "episodes": EPISODES}
    return evaluate(learner, theta, pool, jax.random.key(1), **size).per_episode
