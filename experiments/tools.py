"""What the experiments share: a run for as many minutes, its test scores as rows, and records filled row by row."""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from protocols import Protocol, score_protocols

from mtl_jax import ClassPool, Learner
from mtl_jax.app.build import build_learner
from mtl_jax.app.copies import in_words
from mtl_jax.app.launch import launch
from mtl_jax.app.methods import change, resolve_settings
from mtl_jax.app.runs import load_pool, load_theta, read_result, read_settings
from mtl_jax.app.settings import Settings
from mtl_jax.learners.copies import with_copies
from mtl_jax.run.backend import configure_cpu
from mtl_jax.run.loop import TrainResult
from mtl_jax.run.metrics import over_shared_episodes, read_jsonl, write_json
from mtl_jax.run.recorder import Recorder
from mtl_jax.run.train import clear_compiled
from mtl_jax.types import PyTree

TRIAL = 30  # meta-steps of a trial run, the last ten of which are timed


def publish(
    name: str,
    about: str,
    settings: Mapping[str, Mapping[str, Any]],
    targets: Sequence[str | None] = (None,),
    ways: Sequence[int] | None = (5,),
    as_many: bool = False,
    **test: Any,
) -> None:
    """Train one of `settings` as the command line asks, test it under both norms, and leave result.json.

    Of several --seeds each has a run in a folder of its own, the networks are tested on the same episodes, and a row is
    their mean (`score_runs`); "seconds" and all else that is one run's are the first's, "train_seconds" a mean.

    Args:
        name: the experiment's.
        about: its docstring, for --help.
        settings: what `resolve_settings` takes, by the name that --setting knows it by; the first is the default.
        targets: data sets to test on; that of the training unless given.
        ways: classes per test task, each in its turn; those of the training for None.
        as_many: also test with as many queries as shots, under transductive moments, as the papers of gradient methods
            do: the moments of one image per class help, so that these figures are not those of 15 queries.
        test: settings of `score_runs`; 1 and 5 shots, 1,000 episodes of 15 queries unless given.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=tuple(settings), default=next(iter(settings)))
    parser.add_argument("--steps", type=int, help="meta-steps (default: the setting's)")
    parser.add_argument("--out", type=Path, default=Path("runs") / name)
    parser.add_argument("--init", help="folder of a run whose network to start from")
    parser.add_argument("--teacher", help="folder of a run whose outputs a pre-training learns too")
    parser.add_argument("--resume", action="store_true")
    args = parse_seeds(parser, [0])
    configure_cpu()
    at = commit()
    asked = {k: v for k, v in vars(args).items() if k in ("steps", "init", "teacher") and v is not None}
    with one_line(parser):
        of_run = resolve_settings({**settings[args.setting], **asked})
        alone = len(args.seeds) == 1
        folders = {seed: args.out if alone else args.out / f"seed{seed}" for seed in args.seeds}
        for folder in folders.values():
            Recorder(folder, resume=args.resume)  # refused before the first is trained, not after
        results = []
        for seed, folder in folders.items():
            run, result = launch(change(of_run, seed=seed), folder, args.resume)
            if run.interrupted:
                parser.exit(130, f"stopped at step {int(run.state.step)} of {of_run.outer.steps}: --resume goes on\n")
            results.append(result)
    ways = (of_run.task.ways,) if ways is None else ways
    score = partial(score_runs, list(folders.values()))
    rows = [row for target in targets for n in ways for row in score(target, ways=n, as_many=as_many, **test)]
    seconds = sum(result["seconds"] for result in results) / len(results)
    record = {"experiment": name, "setting": args.setting, "train_seconds": seconds, "commit": at}
    options = {"average": of_run.outer.average, "patience": of_run.run.patience, "seeds": None if alone else args.seeds}
    curve = read_curve(next(iter(folders.values())))
    record |= {k: v for k, v in options.items() if v is not None} | {"curve": curve, "test": rows}
    write_json(args.out / "result.json", results[0] | record)


def parse_seeds(parser: argparse.ArgumentParser, default: Sequence[int]) -> argparse.Namespace:
    """The arguments of a parser that --seeds is added to; one line and exit status 2 where a seed is there twice."""
    said = "of several, each has a run of its own"
    parser.add_argument("--seeds", type=int, nargs="+", default=default, help=said)
    args = parser.parse_args()
    with one_line(parser):
        if twice := [seed for seed in args.seeds if args.seeds.count(seed) > 1]:
            raise ValueError(f"--seeds has {twice[0]} twice: give each once")
    return args


@contextmanager
def one_line(parser: argparse.ArgumentParser) -> Iterator[None]:
    """End with exit status 2 and one line, as the command line does, where a run is refused."""
    try:
        yield
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


def read_curve(folder: str | PathLike[str]) -> list[tuple[int, float]]:
    """The learning curve of a run: (step, accuracy, a fraction) of each validation."""
    rows = read_jsonl(Path(folder) / "metrics.jsonl")
    return [(row["step"], row["val_accuracy"]) for row in rows if "val_accuracy" in row]


def commit() -> str | None:
    """The short name of the commit that these files are of, with a + if some are changed; None outside git."""
    git = ("git", "-C", str(Path(__file__).parent))
    try:
        name = subprocess.run((*git, "rev-parse", "--short", "HEAD"), capture_output=True, text=True, check=True)
        changed = subprocess.run((*git, "status", "--porcelain", "-uno"), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return name.stdout.strip() + ("+" if changed.stdout.strip() else "")


def launch_for(settings: Settings, minutes: float, out: Path) -> tuple[TrainResult, dict[str, Any]]:
    """`launch` with the steps that fit into `minutes`, as a short trial run on this machine says; pre-training counts.

    Args:
        settings: those that `resolve_settings` gives, with a data set; their "steps" do not matter.
        minutes: of training in all, compilation and the trial apart.
        out: the run's folder.

    Returns:
        (TrainResult, what result.json holds with ms_a_step, and with the pre-training's time in its seconds).

    Raises:
        ValueError: see `launch`; or the pre-training alone takes longer.
        KeyboardInterrupt: Ctrl-C; what was done is kept, and `train_or_resume` goes on with it.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = change(settings, steps=TRIAL, log_every=10, val_every=TRIAL, val_episodes=5, keep_best=1)
        run, _ = launch(trial, Path(folder) / "run", quiet=True)
        pace = settings.task.tasks / run.history[-1]["tasks_per_s"]
        made = Path(folder) / "run" / "pretrain"
        spent = read_result(made)["seconds"] if made.exists() else 0.0
        steps = int((60 * minutes - spent) / pace)
        if steps < 1:
            raise ValueError(f"{minutes} minutes leave no time after {spent:.0f} s of pre-training: give more")
        start = {"init": str(made)} if spent else {}
        run, result = launch(change(settings, steps=steps, val_every=max(1, steps // 5), **start), out)
    if run.interrupted:
        raise KeyboardInterrupt
    return run, result | {"ms_a_step": 1000 * pace, "seconds": spent + result["seconds"]}


def score_run(folder: str | PathLike[str], dataset: str | None = None, **settings: Any) -> list[dict[str, Any]]:
    """`score_runs` of one run."""
    return score_runs([folder], dataset, **settings)


def score_runs(
    folders: Sequence[str | PathLike[str]], dataset: str | None = None, **settings: Any
) -> list[dict[str, Any]]:
    """`score_rows` of runs at their best validations, on the test classes of their data set or of another.

    Args:
        folders: the runs', which differ in their seeds alone.
        dataset: where to test; its images are given the size and the channels that the runs were trained on.
        settings: ways, shots, queries, episodes, norms, as_many, task_chunk, augment and copies of `score_rows`.

    Returns:
        Rows as `score_rows` gives them, with "dataset"; of a run that keeps several checkpoints also those of their
        ensemble, with "ensemble".

    Raises:
        FileNotFoundError, ValueError: a folder holds no run, or the data set no such tasks.
    """
    of_run = read_settings(folders[0])
    name = dataset or str(of_run.task.dataset)
    ways, pool = settings.get("ways", 5), load_pool(of_run, "test", name)

    def learner(norm: str, several: int = 1) -> Learner:
        return build_learner(change(of_run, norm=norm), ways, ensemble=several)

    title = f"{of_run.learner} on {name}"
    rows = score_rows(learner, [load_theta(folder, of_run) for folder in folders], pool, title, **settings)
    if (kept := of_run.run.keep_best) > 1:
        thetas = [load_theta(folder, of_run, kept) for folder in folders]
        many = score_rows(partial(learner, several=kept), thetas, pool, f"{kept} of {title}", **settings)
        rows += [{**row, "ensemble": kept} for row in many]
    clear_compiled()  # the learners were made here
    return [{"dataset": name, **row} for row in rows]


def score_rows(
    learner: Callable[[str], Learner],
    thetas: Sequence[PyTree],
    pool: ClassPool,
    title: str,
    ways: int = 5,
    shots: Sequence[int] = (1, 5),
    queries: int = 15,
    episodes: int = 1000,
    norms: Sequence[str] = ("transductive", "support"),
    as_many: bool = False,
    task_chunk: int | None = None,
    augment: str = "none",
    copies: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Test under every number of shots and every norm, always on the same episodes, and print a line for each.

    Args:
        learner: norm -> Learner, of the method that was trained.
        thetas: its meta-learned parameters, of each seed.
        pool: the classes to test on.
        title: what the lines begin with, such as "protonet on omniglot".
        ways, queries, episodes: the size and number of the episodes.
        shots: support images per class, each in its turn.
        norms: of "transductive", "support" and "none".
        as_many: under transductive moments with as many queries as shots, too.
        task_chunk: episodes at a time; chosen by backend and size unless given.
        augment: "rotations" for a class per quarter turn of each class.
        copies: {"vary", "support_copies", "query_copies"}: test with augmented copies (`with_copies`) too.

    Returns:
        Rows of norm, ways, shots, queries, episodes, accuracy and ci95 (fractions), and augment where there is one. Of
        several seeds also "seeds", the accuracy of each: accuracy is their mean, ci95 the interval over episodes of
        the episodes' means over seeds. Rows with copies have those settings, and what they gain on the row before them
        as "gain" and "gain_ci95", paired episode by episode.
    """
    rows, how = [], {} if augment == "none" else {"augment": augment}

    def changed(norm: str, added: Mapping[str, Any]) -> Learner:
        return with_copies(learner(norm), **added) if added else learner(norm)

    for k in shots:
        protocols = [Protocol(norm, queries) for norm in norms] + ([Protocol("transductive", k)] if as_many else [])
        size = {"ways": ways, "shots": k, "episodes": episodes}
        test = partial(score_protocols, protocols=protocols, **size, augment=augment, task_chunk=task_chunk)
        options = ({}, copies) if copies else ({},)
        seen = [[test(partial(changed, added=added), theta, pool) for theta in thetas] for added in options]
        for i, of in enumerate(protocols):
            plain = [scores[i] for scores in seen[0]]
            for added, each in zip(options, ([scores[i] for scores in one] for one in seen), strict=True):
                row = {"norm": of.norm, **size, "queries": of.queries, **shared_scores(each), **how, **added}
                figure = f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f} %"
                figure += (in_words(added) if added else "") + ("" if of.queries == queries else ", as many queries")
                print(f"{title}, {ways}-way {k}-shot, norm {of.norm}: {figure}", flush=True)
                if added:
                    gain = over_shared_episodes([new - old for new, old in zip(each, plain, strict=True)])
                    row |= {"gain": gain["mean"], "gain_ci95": gain["ci95"]}
                rows.append(row)
    return sorted(rows, key=lambda row: row["queries"] != queries)  # as many queries as shots come last


def shared_scores(each: Sequence[np.ndarray]) -> dict[str, Any]:
    """accuracy and ci95 of networks' scores of the same episodes, and "seeds" where there are several networks."""
    seen = over_shared_episodes(each)
    figures = {"accuracy": seen["mean"], "ci95": seen["ci95"]}
    return figures | ({"seeds": seen["seeds"]} if len(each) > 1 else {})


def read_rows(path: Path, name: str) -> list[dict[str, Any]]:
    """The rows that a record, a JSON file, has under `name`; none where there is no record yet."""
    return json.loads(path.read_text(encoding="utf-8"))[name] if path.exists() else []


def fill_methods(
    path: Path, about: Mapping[str, Any], wanted: Sequence[str], measure: Callable[[str], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Measure each method that a record has no row for yet, and write the record after each.

    Args:
        path: the record, a JSON file; other processes may be adding their rows to it.
        about: what it says beside its rows.
        wanted: names of methods.
        measure: name -> its row, with "method" among its keys.

    Returns:
        All rows of the record, which are kept under "methods".
    """
    for name in wanted:
        if name not in {row["method"] for row in read_rows(path, "methods")}:
            row = measure(name)
            write_json(path, {**about, "methods": [*read_rows(path, "methods"), row]})
    return read_rows(path, "methods")
