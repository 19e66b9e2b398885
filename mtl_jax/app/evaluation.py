"""The command eval: a run on test episodes."""

import json
import logging
import math
from argparse import SUPPRESS, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mtl_jax.app import frozen, methods, options, runs
from mtl_jax.app.copies import add_copies, copies_of, in_words
from mtl_jax.app.options import Parser
from mtl_jax.app.settings import Settings

if TYPE_CHECKING:
    from mtl_jax.run.evaluate import Evaluation

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SIZES = {"ways": "classes per task", "shots": "support images per class", "queries": "query images per class"}
MATRIX = 100  # classes, above which --json has the most confused pairs alone
PAIRS = 10  # of classes that are most often taken for each other, to be shown


class Measured(NamedTuple):
    """What was measured of a run: the result as eval prints it, the scores, and the pool's (names, counts)."""

    result: dict[str, Any]
    seen: "Evaluation"
    classes: tuple[tuple[str, ...], tuple[int, ...]]


def eval_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax eval`."""
    text = "folder of a run, the name of weights, or a frozen backbone: lite0, or with a head to be fitted lite0:rfs"
    parser.add_argument("folder", type=Path, metavar="RUN", help=text)
    add_episodes(parser, "the run's")
    steps = options.count("inner_steps", 100_000)
    about = "gradient steps of the adaptation (default: the run's)"
    parser.add_argument("--inner-steps", type=steps, default=SUPPRESS, metavar="N", help=about)
    text = "also each class's accuracy, which are taken for each other, -log p and the calibration error"
    parser.add_argument("--per-class", action="store_true", help=text)
    options.add_common(parser, "--json", "--no-cache")


def add_episodes(parser: Parser, whose: str) -> None:
    """The options that say which episodes, for eval and compare."""
    parser.add_argument("--dataset", default=SUPPRESS, help=f"a name, or folder:/path (default: {whose})")
    parser.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    parser.add_argument("--episodes", type=options.count("episodes"), default=1000, metavar="N", help="default: 1000")
    for name, about in SIZES.items():
        number = options.count(name, 100_000)
        text = f"{about} (default: {whose})"
        parser.add_argument(f"--{name}", type=number, default=SUPPRESS, metavar="N", help=text)
    several = options.count("ensemble", 1000)
    text = "average the probabilities of a run's N best checkpoints, as many as its --keep-best kept (default: 1)"
    parser.add_argument("--ensemble", type=several, default=1, metavar="N", help=text)
    add_copies(parser)
    options.add_norm(parser, "each run's" if "runs" in whose else whose)
    side = options.count("image_size", 4096)
    parser.add_argument("--image-size", type=side, default=SUPPRESS, metavar="N", help="a backbone's pixels of a side")
    seed = options.value_of("seed", int, {"least": 0, "most": 2**32 - 1})
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="of the episodes (default: 0)")
    parser.add_argument(
        "--task-chunk", type=options.count("task_chunk"), metavar="N", help="episodes at a time (default: automatic)"
    )


def evaluate(args: Namespace) -> None:
    """Measure a run on test episodes."""
    check_image_size(args, [args.folder])
    result, seen, (names, _) = measure(args.folder, args)
    text = "{learner}, {ways}-way {shots}-shot on {dataset} ".format(**result)
    text += "({split}, {episodes} episodes, queries per class {queries}, norm {norm}): ".format(**result)
    text += percent(seen.accuracy, seen.ci95)
    if "ensemble" in result:
        text += f" (the {result['ensemble']} best checkpoints together)"
    if "vary" in result:
        text += in_words(result)
    if result.get("transductive"):
        text += " (transductive: all queries of an episode at once)"
    if args.per_class:
        result |= _by_class(seen, names)
        text += "\n" + _table(result)
    print(json.dumps(plain(result)) if args.json else text)


def check_image_size(args: Namespace, folders: Sequence[Path]) -> None:
    """Raise ValueError where --image-size is given and no backbone is there to take it."""
    if hasattr(args, "image_size") and not any(frozen.is_backbone(str(folder)) for folder in folders):
        raise ValueError("--image-size is for a backbone: a run has the size that it was trained on")


def measure(folder: Path, args: Namespace) -> Measured:
    """Evaluate a run on the episodes that the options say, its own settings where they say nothing."""
    given = vars(args)
    alone = frozen.is_backbone(str(folder))
    settings = trained = settings_of(folder, given)
    if "inner_steps" in given:
        settings = methods.with_test_steps(settings, args.inner_steps)
    if "norm" in given:
        settings = methods.change(settings, norm=args.norm)
    ways, shots, queries = (given.get(k, getattr(trained.task, k)) for k in SIZES)
    dataset = given.get("dataset", trained.task.dataset)
    copies = copies_of(settings, given)  # refused before a backbone's features are made
    import jax

    from mtl_jax.app.build import build_learner
    from mtl_jax.run.evaluate import evaluate
    from mtl_jax.run.progress import announce

    pool = runs.load_pool(settings, args.split, dataset)
    if note := methods.note_on_shots(trained, [shots * (1 + args.support_copies)]):
        log.warning(note)
    if alone:
        settings = methods.change(settings, image_shape=pool.input_shape)
    learner = build_learner(settings, ways, ensemble=args.ensemble, copies=copies)
    theta = frozen.fresh_theta(settings) if alone else runs.load_theta(folder, trained, args.ensemble)
    chunk = args.task_chunk or settings.run.task_chunk
    if chunk is None and jax.default_backend() != "cpu":
        chunk = settings.task.tasks  # as many as training had room for
    size = {"ways": ways, "shots": shots, "queries": queries, "episodes": args.episodes}
    announce(f"compiling and scoring {args.episodes} episodes of {folder.name}, 5 to 30 s as a rule")
    seen = evaluate(learner, theta, pool, jax.random.key(args.seed), **size, task_chunk=chunk)
    result = {
        "learner": settings.learner,
        "dataset": dataset,
        "split": args.split,
        "ways": ways,
        "shots": shots,
        "queries": queries,
        "inner_steps": methods.test_steps(settings),
        "norm": settings.network.norm,
        "episodes": args.episodes,
        "accuracy": seen.accuracy,
        "ci95": seen.ci95,
        "seed": args.seed,
    }
    if args.ensemble > 1:
        result["ensemble"] = args.ensemble
    result |= copies
    if methods.find_method(settings.learner).transductive:  # which the network's norm does not tell
        result["transductive"] = True
    return Measured(result, seen, (tuple(pool.names), tuple(jax.device_get(pool.count).tolist())))


def settings_of(folder: Path, given: Mapping[str, Any]) -> Settings:
    """A run's settings, or those of a frozen backbone's head for the task that is asked for."""
    return _untrained(str(folder), given) if frozen.is_backbone(str(folder)) else runs.read_settings(folder)


def _untrained(name: str, given: Mapping[str, Any]) -> Settings:
    """The settings of a frozen backbone's head, for the task that is asked for."""
    if given.get("dataset") is None:
        raise ValueError(f"{name} was trained on none of the data sets here: give --dataset")
    runs.check_single(name, given["ensemble"])
    if "norm" in given:
        raise ValueError("a frozen backbone has moments of its own (norm frozen): leave --norm out")
    asked = {k: given[k] for k in ("image_size", *SIZES) if k in given}
    return frozen.settings_of(name, given["dataset"], **asked)


def percent(mean: float, half: float | None) -> str:
    """A mean and its interval's half-width, fractions, for people."""
    return f"{100 * mean:.2f} %" + (f" ± {100 * half:.2f}" if half is not None and math.isfinite(half) else "")


def plain(result: Mapping[str, Any]) -> dict[str, Any]:
    """The same with null in place of what JSON cannot hold."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in result.items()}


def _by_class(seen: "Evaluation", names: tuple[str, ...]) -> dict[str, Any]:
    import numpy as np

    if seen.per_class is None:
        if seen.not_finite:
            raise ArithmeticError(f"{seen.not_finite} episodes have outputs that are not finite: no class has a score")
        raise ValueError("--per-class is for tasks with classes: leave it out")
    names = names or tuple(f"class {k}" for k in range(len(seen.per_class)))
    shares = {n: None if math.isnan(share) else float(share) for n, share in zip(names, seen.per_class, strict=True)}
    found: dict[str, Any] = {"nll": seen.nll, "ece": seen.ece, "per_class": shares, "confused": [], "confusion": None}
    if seen.confusion is not None:
        of_row = seen.confusion / np.maximum(seen.confusion.sum(1, keepdims=True), 1)
        np.fill_diagonal(of_row, 0.0)
        places = np.argsort(-of_row, axis=None, kind="stable")[:PAIRS]
        pairs = [(int(p) // len(names), int(p) % len(names)) for p in places]
        found["confused"] = [[names[i], names[j], float(of_row[i, j])] for i, j in pairs if of_row[i, j] > 0]
        if len(names) <= MATRIX:
            found["confusion"] = {"classes": list(names), "counts": seen.confusion.tolist()}
    return found


def _table(result: Mapping[str, Any]) -> str:
    lines = [f"-log p {result['nll']:.4f}, calibration error {result['ece']:.4f}; classes, worst first:"]
    known = {name: share for name, share in result["per_class"].items() if share is not None}
    width = max(map(len, known), default=0)
    lines += [f"  {name:<{width}} {100 * known[name]:6.2f} %" for name in sorted(known, key=known.__getitem__)]
    if result["confused"]:
        lines.append("taken for each other most often, as a share of the first one's queries:")
        lines += [f"  {one} for {other}: {100 * share:.2f} %" for one, other, share in result["confused"]]
    return "\n".join(lines)
