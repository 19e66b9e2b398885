"""mtl-jax: train, eval, predict, bench, datasets and plot on the command line."""

import argparse
import json
import logging
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mtl_jax.run import methods, setup  # without JAX, as all of this module: --help answers at once
from mtl_jax.run.options import OF_BENCH, OF_EVAL, OF_PRETRAIN, OPTIONS, TRAIN_ONLY, count, image, seed


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"mtl-jax: error: {_line(message)} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends with exit status 2 and one line."""
    args = _parser().parse_args(argv)
    logging.basicConfig(format="mtl-jax: %(message)s")  # warnings, to standard error
    try:
        if getattr(args, "no_cache", True) is False:
            setup.use_compilation_cache()
        if hasattr(args, "no_cache"):
            setup.tune_cpu()
        args.run(args)
    except (ValueError, OSError) as error:
        _fail(2, f"error: {error}")
    except ArithmeticError as error:
        _fail(1, f"error: {error}")
    except KeyboardInterrupt:
        _fail(130, "interrupted")
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _fail(1, "error: out of memory: try a smaller --task-chunk, --width or --queries")


def _train(args: argparse.Namespace) -> None:
    given = {k: v for k, v in vars(args).items() if k in {*methods.DEFAULTS, *TRAIN_ONLY}}
    wanted = methods.complete(given)
    if args.resume and args.seeds > 1:
        raise ValueError("--seeds trains new runs: resume each alone, with --out DIR/seed0 and so on, without --seeds")
    if args.resume:
        if args.out is None:
            raise ValueError("--resume needs --out DIR: the folder of the run to go on with")
        config = setup.read_config(args.out)
        odd = [k for k in given if wanted[k] != config.get(k) and k != "steps"]
        if odd:
            what = ", ".join(f"{k} {config.get(k)} there and {wanted[k]} here" for k in odd)
            raise ValueError(f"{args.out} was trained with other settings, {what}: leave them out to resume")
        config |= {k: wanted[k] for k in given if k == "steps"}
    elif "dataset" not in wanted:
        raise ValueError("no data set: give --dataset NAME (see mtl-jax datasets) or --dataset folder:/path")
    else:
        config = wanted
    from mtl_jax.run.folder import fresh_folder
    from mtl_jax.run.launch import launch, launch_seeds

    name = re.sub(r"\W+", "-", Path(config["dataset"]).name)
    out = Path(args.out) if args.out else fresh_folder(Path("runs") / f"{config['learner']}-{name}")
    if args.seeds > 1:
        runs, result = launch_seeds(config, out, args.seeds)
        if runs[0].interrupted:
            _fail(130, f"interrupted; each seed's last step is saved in its folder in {out}, to --resume one by one")
        mean = _percent(result["val_accuracy"], result["seeds_ci95"]) if result["best_step"] else ""
        score = f", mean of best validations {mean} over seeds" if mean else ""
        text = f"{result['steps']} steps of {args.seeds} seeds in {result['seconds']:.0f} s{score}: {out}"
        return _report(args.json, {**result, "out": str(out)}, text)
    run, result = launch(config, out, args.resume)
    if run.interrupted:
        resume = f"mtl-jax train {config['learner']} --out {shlex.quote(str(out))} --resume"
        _fail(130, f"interrupted after step {int(run.state.step)}, which is saved; to go on: {resume}")
    score = f", best validation {_percent(result['val_accuracy'], result['val_ci95'])}" if result["best_step"] else ""
    text = f"{result['steps']} steps in {result['seconds']:.0f} s{score}: {out}"
    return _report(args.json, {**result, "out": str(out)}, text)


def _eval(args: argparse.Namespace) -> None:
    config = trained = setup.read_config(args.folder)
    changed = {k: v for k, v in vars(args).items() if k == "norm"}
    if hasattr(args, "inner_steps"):
        config = methods.with_test_steps(config, args.inner_steps)
    ways, shots, queries = ({**config, **vars(args)}[k] for k in ("ways", "shots", "queries"))
    config = {**config, **changed}
    dataset = getattr(args, "dataset", config["dataset"])
    learner = methods.build_learner(config, ways)
    import jax

    from mtl_jax.run.evaluate import evaluate

    theta = setup.load_theta(args.folder, trained)
    pool = setup.load_pool(config, args.split, dataset)
    key = jax.random.key(args.seed)
    chunk = args.task_chunk or config["task_chunk"]
    if chunk is None and jax.default_backend() != "cpu":
        chunk = config["tasks"]  # as many as training had room for
    seen = evaluate(learner, theta, pool, key, ways, shots, queries, args.episodes, task_chunk=chunk)
    result = {
        "learner": config["learner"], "dataset": dataset, "split": args.split, "ways": ways, "shots": shots,
        "queries": queries, "inner_steps": config["test_steps"] or config["inner_steps"], "norm": config["norm"],
        "episodes": args.episodes, "accuracy": seen.accuracy, "ci95": seen.ci95, "seed": args.seed,
    }  # fmt: skip
    task = f"{ways}-way {shots}-shot on {dataset} ({args.split}, {args.episodes} episodes, norm {config['norm']})"
    _report(args.json, result, f"{config['learner']}, {task}: {_percent(seen.accuracy, seen.ci95)}")


def _predict(args: argparse.Namespace) -> None:
    config = setup.read_config(args.folder)
    config |= {"norm": getattr(args, "norm", config["norm"])}
    if args.csv and not args.csv.absolute().parent.is_dir():
        raise FileNotFoundError(f"no folder {args.csv.parent} to write {args.csv.name} in: make it first")
    from mtl_jax.run.predict import predict, write_csv

    found = predict(config, setup.load_theta(args.folder, config), args.support, args.query, args.invert)
    if args.csv:
        write_csv(found, args.csv)
        print(f"{len(found)} predictions in {args.csv}", file=sys.stderr)
        return
    for each in found:
        print(f"{each.file}\t{each.label}\t{each.probability:.3f}")


def _bench(args: argparse.Namespace) -> None:
    given = {k: v for k, v in vars(args).items() if k in {*methods.DEFAULTS, "learner"}}
    config = methods.complete({"tasks": 8, **given}) | {"image_shape": args.image, "classes": 64}
    from mtl_jax.run import sweep
    from mtl_jax.run.bench import bench

    def measure(changed: Mapping[str, Any]) -> dict[str, Any]:
        return bench({**config, **changed}, args.repeats, args.with_sampling, args.trace)

    names = ("learner", "ways", "shots", "queries", "tasks", "inner_steps", "order", "model", "width", "norm")
    result = {k: config[k] for k in (*names, "downsample")} | {"image": "x".join(map(str, args.image))}
    result |= {"repeats": args.repeats, "cache": not args.no_cache, "with_sampling": args.with_sampling}
    line = "{learner}: {step_ms:.1f} ms a step (least {step_ms_min:.1f}), {tasks_per_s:.1f} tasks/s, first step "
    line += "{first_ms:.0f} ms, {rss_mib:.0f} MiB resident at most, {share:.0%} of the matrix-product rate, on {device}"
    if not args.sweep:
        result |= measure({})
        return _report(args.json, result, line.format(**result))
    name, values = sweep.parse(args.sweep)
    rows = sweep.sweep(name, values, measure, args.out)
    text = "\n".join(f"{name} {row[name]}: " + line.format(**{**result, **row}) for row in rows)
    return _report(args.json, {**result, "sweep": name, "rows": rows}, f"{text}\n{args.out / 'sweep.png'}")


def _datasets(args: argparse.Namespace) -> None:
    from mtl_jax import datasets

    if args.action and not args.name:
        raise ValueError(f"prepare what? choose one of {', '.join(datasets.DATASETS)}")
    if args.action:
        print(f"{args.name} is prepared in {datasets.prepare(args.name)}")
        return
    ready = datasets.available()
    for name, facts in datasets.DATASETS.items():
        shape, sizes = "x".join(map(str, facts.image_shape)), ", ".join(f"{k} {n}" for k, n in facts.classes.items())
        print(f"{name:10} {'ready' if ready[name] else 'not prepared':13} {shape:8} classes: {sizes}; {facts.about}")
    print("folder:/path  one sub-folder of images a class, below train/, val/ and test/ where these exist")


def _plot(args: argparse.Namespace) -> None:
    single = args.folders[0] if len(args.folders) == 1 else None
    out = args.out or (single / "learning_curve.png" if single else Path("learning_curves.png"))
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"no folder {out.parent}: give a run's folder, and --out in one that exists")
    from mtl_jax.run import plot

    plot.learning_curve(args.folders, out)
    print(out)
    if single is None:
        return
    import jax

    from mtl_jax import datasets, sample_episode

    config = setup.read_config(single)
    try:
        pool = setup.load_pool(config, datasets.info(config["dataset"]).splits[-1])
    except (ValueError, OSError) as error:  # the curve needs no data; they may be on another machine
        print(f"mtl-jax: no picture of an episode: {_line(error)}", file=sys.stderr)
        return
    ways, shots = min(config["ways"], pool.classes, 10), min(config["shots"], pool.smallest - 1, 10)
    queries = min(config["queries"], pool.smallest - shots, 10)
    episode = sample_episode(jax.random.key(config["seed"]), pool, ways, shots, queries)
    plot.episode_grid(episode, out.with_name("episode.png"))
    print(out.with_name("episode.png"))


def _percent(mean: float, half: float | None) -> str:
    return f"{100 * mean:.2f} %" + (f" ± {100 * half:.2f}" if half is not None and math.isfinite(half) else "")


def _report(as_json: bool, result: Mapping[str, Any], text: str) -> None:
    """One JSON object, or one line for people, on standard output."""
    whole = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in result.items()}
    print(json.dumps(whole) if as_json else text)


def _line(message: object) -> str:
    return " ".join(str(message).split())


def _fail(code: int, message: str) -> NoReturn:
    print(f"mtl-jax: {_line(message)}", file=sys.stderr)
    raise SystemExit(code)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mtl-jax", description="Meta-transfer learning in JAX.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Any, about: str, options: Sequence[str] = (), of_run: bool = False) -> Any:
        sub = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        sub.set_defaults(run=run)
        for option in options:  # without a default here: what is given can be told from what is not
            kind, value = OPTIONS[option], methods.DEFAULTS[option]
            value = "the run's" if of_run else 8 if (name, option) == ("bench", "tasks") else value
            told = "" if value is None or value is False else f" (default: {value})"
            text = kind["help"] + told
            sub.add_argument("--" + option.replace("_", "-"), default=argparse.SUPPRESS, **kind | {"help": text})
        return sub

    def common(sub: Any, as_json: bool = True) -> None:
        sub.add_argument("--no-cache", action="store_true", help="compile anew: no cache of compiled programs")
        if as_json:
            sub.add_argument("--json", action="store_true", help="print one JSON object")

    train = command("train", _train, "Meta-train a learner; settings default by learner, else as said.", tuple(OPTIONS))
    bench = command("bench", _bench, "Time a compiled meta-step on made-up episodes.", OF_BENCH)
    evaluate = command("eval", _eval, "Measure a run on test episodes.", OF_EVAL, of_run=True)
    predict = command("predict", _predict, "Classify images by a folder of examples.", ("norm",), of_run=True)
    pretrain = command("pretrain", _train, "Train a network on all source classes: train finetune.", OF_PRETRAIN)
    pretrain.set_defaults(learner="finetune")
    for sub in (train, bench):
        sub.add_argument("learner", choices=tuple(methods.METHODS), metavar="LEARNER", help=", ".join(methods.METHODS))
    for sub in (evaluate, predict):
        sub.add_argument("folder", type=Path, metavar="DIR", help="folder of a run")
    absent = argparse.SUPPRESS
    augmentations = ("none", "rotations", "flip_crop")
    for sub in (train, pretrain):
        sub.add_argument("--dataset", default=absent, help="a name (see mtl-jax datasets), or folder:/path")
        sub.add_argument("--image-size", type=count, default=absent, help="pixels of a side (default: the data set's)")
        sub.add_argument("--augment", choices=augmentations, default=absent, help="default: the data set's")
        sub.add_argument("--out", help="run folder (default: a new one below runs/)")
        sub.add_argument("--resume", action="store_true", help="go on with the run in --out; only --steps may change")
        sub.add_argument("--seeds", type=count, default=1, help="train with as many seeds at once (default: 1)")
    evaluate.add_argument("--dataset", default=absent, help="a name, or folder:/path (default: the run's)")
    evaluate.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: test")
    evaluate.add_argument("--episodes", type=count, default=1000, help="default: 1000")
    evaluate.add_argument("--seed", type=seed, default=0, help="of the episodes (default: 0)")
    evaluate.add_argument("--task-chunk", type=count, help="episodes at a time (default: automatic)")
    predict.add_argument("--support", type=Path, required=True, help="folder: one sub-folder of images a class")
    predict.add_argument("--query", type=Path, nargs="+", required=True, help="a folder of images, or image files")
    predict.add_argument("--csv", type=Path, help="write file, class and probability here")
    predict.add_argument(
        "--invert", action="store_true", help="dark ink on light paper, for runs on glyphs or omniglot"
    )
    bench.add_argument("--image", type=image, default=[28, 28, 1], help="default: 28x28x1")
    bench.add_argument("--with-sampling", action="store_true", help="draw each step's tasks inside it")
    bench.add_argument("--sweep", metavar="NAME=V1,V2,...", help="measure at each value, such as tasks=1,2,4")
    bench.add_argument("--out", type=Path, default=Path("runs/sweep"), help="folder of the sweep (default: runs/sweep)")
    bench.add_argument("--trace", type=Path, metavar="DIR", help="write a JAX profiler trace of one step")
    bench.add_argument("--repeats", type=count, default=7, help="timed steps (default: 7)")
    for sub in (train, pretrain, evaluate, bench):
        common(sub)
    common(predict, as_json=False)
    known = command("datasets", _datasets, "List the data sets, or prepare one.")
    known.add_argument("action", nargs="?", choices=("prepare",), help="download and convert a data set")
    known.add_argument("name", nargs="?", help="which")
    plot = command("plot", _plot, "Draw the learning curves of runs; of a single run, also an episode.")
    plot.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="folders of runs")
    plot.add_argument("--out", type=Path, help="PNG file (default: learning_curve.png in the run's folder)")
    return parser


if __name__ == "__main__":
    main()
