"""The commands of mtl-jax: each one's options, and what it does with them."""

import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_jax.app import classify, compare, draw, evaluation, export, features_command, listings, methods, options, runs
from mtl_jax.app.evaluation import percent, plain
from mtl_jax.app.options import Parser
from mtl_jax.app.settings import Settings

MAY_CHANGE = ("steps", "meta_lr", "clip", "on_nonfinite", "patience", "task_chunk")  # of a run that goes on


class Interrupted(Exception):
    """Ctrl-C, after which everything is saved; the message says how to go on."""


def train_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax train` and `pretrain`."""
    options.add_learner_options(parser, learner or "finetune")
    parser.add_argument("--out", help="the run's folder (default: a new one below runs/)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help=f"go on with the run in --out, or begin it; {', '.join(options.flag(k) for k in MAY_CHANGE)} may change",
    )
    group = parser.add_argument_group("several processes, on one machine or many")
    group.add_argument(
        "--distributed", action="store_true", help="train with the other processes of this cluster as one"
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, where no cluster says it")
    group.add_argument(
        "--process-id", type=options.count("process-id", 10**6, 0), metavar="K", help="of this process, from 0"
    )
    group.add_argument(
        "--num-processes", type=options.count("num-processes", 10**6), metavar="N", help="how many there are"
    )
    parser.add_argument(
        "--seeds",
        type=options.count("seeds", 1000),
        default=1,
        metavar="N",
        help="train with as many seeds at once (default: 1)",
    )
    options.add_common(parser, "--json", "--no-cache")


def train(args: Namespace) -> None:
    """Train a learner, or go on with a run."""
    learner = args.learner or "finetune"
    given = options.given_settings(args, learner)
    whole_cluster = (args.coordinator, args.process_id, args.num_processes)
    if any(each is not None for each in whole_cluster) and not args.distributed:
        raise ValueError("--coordinator, --process-id and --num-processes are of --distributed: give that as well")
    if args.resume and args.seeds > 1:
        raise ValueError("--seeds trains new runs: resume each alone, with --out DIR/seed0 and so on, without --seeds")
    settings = _resumed(args.out, given) if args.resume else methods.resolve_settings(given)
    if settings.task.dataset is None:
        raise ValueError("no data set: give --dataset NAME (see mtl-jax datasets) or --dataset folder:/path")
    if args.distributed and (args.seeds > 1 or args.out is None):
        raise ValueError("--distributed trains one run, in the same --out DIR of every process: leave --seeds out")
    from mtl_jax.app.launch import launch, launch_seeds
    from mtl_jax.run.processes import is_first, join_processes, send_libraries_output_to_stderr

    if args.distributed:
        send_libraries_output_to_stderr()  # Gloo's, which would come between the lines of --json
        join_processes(*whole_cluster)
    name = runs.plain_name(settings.task.dataset)
    out = (
        Path(args.out).expanduser()
        if args.out
        else runs.fresh_folder(Path("runs") / f"{runs.plain_name(learner)}-{name}")
    )
    if args.seeds > 1:
        results, result = launch_seeds(settings, out, args.seeds)
        if results[0].interrupted:
            raise Interrupted(f"interrupted; each seed's last step is saved in its folder in {out}, to --resume alone")
        mean = f", mean of best validations {percent(result['val_accuracy'], result['seeds_ci95'])} over seeds"
        text = f"{result['steps']} steps of {args.seeds} seeds in {result['seconds']:.0f} s"
        return _report(
            args.json, {**result, "out": str(out)}, text + (mean if result["best_step"] else "") + f": {out}"
        )
    run, result = launch(settings, out, args.resume, quiet=args.distributed and not is_first())
    if not is_first():
        return None
    if run.interrupted:
        resume = f"mtl-jax train {learner} --out {shlex.quote(str(out))} --resume"
        raise Interrupted(f"interrupted after step {int(run.state.step)}, which is saved; to go on: {resume}")
    score = f", best validation {percent(result['val_accuracy'], result['val_ci95'])}" if result["best_step"] else ""
    ended = ", stopped early" if run.stopped else ""
    text = f"{result['steps']} steps in {result['seconds']:.0f} s{ended}{score}: {out}"
    return _report(args.json, {**result, "out": str(out)}, text)


def _resumed(out: str | None, given: Mapping[str, Any]) -> Settings:
    """The settings of the run in `out`, with those changed that may be; of a run yet to begin, those given.

    So one command, which a scheduler may repeat, begins a run and goes on with it.

    Raises:
        ValueError: other settings than the run's, or nothing to go on with and no data set to begin with.
    """
    if out is None:
        raise ValueError("--resume needs --out DIR: the folder of the run to go on with")
    if not (Path(out).expanduser() / "config.json").exists():
        if "dataset" not in given:
            raise ValueError(f"nothing to resume in {out}, and no --dataset to begin a run with")
        return methods.resolve_settings(given)
    settings = runs.read_settings(out)
    if given["learner"] != settings.learner:
        raise ValueError(
            f"{out} was trained with other settings, learner {settings.learner} there and "
            f"{given['learner']} here: leave them out to resume"
        )
    there = methods.given_of(settings)
    here = methods.given_of(methods.resolve_settings({**there, **given}))
    if odd := [k for k in given if here[k] != there[k] and k not in MAY_CHANGE]:
        what = ", ".join(f"{k} {there[k]} there and {here[k]} here" for k in odd)
        raise ValueError(f"{out} was trained with other settings, {what}: leave them out to resume")
    if here["steps"] != there["steps"] and there["schedule"] != "constant":
        text = (
            "mtl-jax: the {} schedule was over {} steps and is now over {}: the outer rate goes on at the longer one's"
        )
        print(text.format(there["schedule"], there["steps"], here["steps"]), file=sys.stderr)
    if bool(here["clip"]) != bool(there["clip"]):
        raise ValueError(f"clip {there['clip']:g} of {out} can become another norm, but not {here['clip']:g}")
    return methods.change(settings, **{k: here[k] for k in MAY_CHANGE})


def bench_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax bench`."""
    options.add_learner_options(parser, str(learner), options.OF_BENCH, tasks=8)
    parser.add_argument("--image", type=options.image, default=[28, 28, 1], metavar="HxWxC", help="default: 28x28x1")
    parser.add_argument("--with-sampling", action="store_true", help="draw each step's tasks inside it")
    parser.add_argument("--sweep", metavar="NAME=V1,V2,...", help="measure at each value, such as tasks=1,2,4")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/sweep"), help="folder of the sweep (default: runs/sweep)"
    )
    parser.add_argument("--trace", type=Path, metavar="DIR", help="write a JAX profiler trace of one step")
    parser.add_argument(
        "--repeats", type=options.count("repeats", 10_000), default=7, metavar="N", help="timed steps (default: 7)"
    )
    options.add_common(parser, "--json", "--no-cache")


def bench(args: Namespace) -> None:
    """Time a compiled meta-step on made-up episodes."""
    given = {"tasks": 8, **options.given_settings(args, args.learner), "image_shape": args.image}
    if methods.find_method(args.learner).trains_on == "batches":
        given["classes"] = 64
    first = methods.resolve_settings(given)
    from mtl_jax.app import sweep
    from mtl_jax.app.bench import bench
    from mtl_jax.run.progress import announce

    def measure(changed: Mapping[str, Any]) -> dict[str, Any]:
        announce("compiling a step, up to half a minute, and timing it")
        return bench(methods.change(first, **changed), args.repeats, args.with_sampling, args.trace)

    whole = methods.given_of(first)
    names = ("learner", "ways", "shots", "queries", "tasks", "inner_steps", "order", "model", "width", "norm")
    result = {k: whole.get(k) for k in (*names, "downsample")} | {"image": "x".join(map(str, args.image))}
    result |= {"repeats": args.repeats, "cache": not args.no_cache, "with_sampling": args.with_sampling}
    line = "{learner}: {step_ms:.1f} ms per step (least {step_ms_min:.1f}), {tasks_per_s:.1f} tasks/s, first step "
    line += "{first_ms:.0f} ms, {rss_mib:.0f} MiB resident at most, {share:.0%} of the matrix-product rate, on {device}"
    if not args.sweep:
        result |= measure({})
        return _report(args.json, result, line.format(**result))
    name, values = sweep.parse(args.sweep)
    rows = sweep.sweep(name, values, measure, args.out)
    text = "\n".join(f"{name} {row[name]}: " + line.format(**{**result, **row}) for row in rows)
    return _report(args.json, {**result, "sweep": name, "rows": rows}, f"{text}\n{args.out / 'sweep.png'}")


def _report(as_json: bool, result: Mapping[str, Any], text: str) -> None:
    """One JSON object, or one line for people, on standard output."""
    print(json.dumps(plain(result)) if as_json else text)


COMMANDS = {  # name: (what it does, its options, one line about it)
    "train": (train, train_options, "Meta-train a learner."),
    "pretrain": (train, train_options, "Train a network on all source classes, for others to start from."),
    "eval": (evaluation.evaluate, evaluation.eval_options, "Measure a run on test episodes."),
    "compare": (compare.compare, compare.compare_options, "Measure runs on the same test episodes."),
    "predict": (classify.predict, classify.predict_options, "Classify images by a folder of examples."),
    "export": (export.export, export.export_options, "Write a classifier of a folder of examples as a program."),
    "features": (
        features_command.features,
        features_command.features_options,
        "Write a frozen backbone's features of a data set.",
    ),
    "bench": (bench, bench_options, "Time a compiled meta-step on made-up episodes."),
    "datasets": (listings.datasets, listings.datasets_options, "List the data sets, or prepare one."),
    "learners": (listings.learners, listings.learners_options, "List the methods, each with its paper."),
    "plot": (
        draw.plot,
        draw.plot_options,
        "Draw the learning curves of runs; of a single run, also an episode.",
    ),
}
OF_LEARNER = ("train", "bench")  # a learner's name comes first
