"""The commands that list or draw: data sets, learners, plots."""

import sys
from argparse import Namespace
from pathlib import Path

from mtl_jax.app import methods, runs, shipped
from mtl_jax.app.options import Parser


def datasets_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax datasets`."""
    parser.add_argument("action", nargs="?", choices=("prepare",), help="download and convert a data set")
    parser.add_argument("name", nargs="?", help="which")
    parser.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="prepare: the files that you have")


def datasets(args: Namespace) -> None:
    """List the data sets, or prepare one."""
    from mtl_jax import datasets

    if args.action and not args.name:
        raise ValueError(f"prepare what? choose one of {', '.join(datasets.DATASETS)}")
    if args.action:
        print(f"{args.name} is prepared in {datasets.prepare(args.name, source=args.source)}")
        return
    ready = datasets.available()
    for name, facts in datasets.DATASETS.items():
        shape, sizes = "x".join(map(str, facts.image_shape)), ", ".join(f"{k} {n}" for k, n in facts.classes.items())
        print(f"{name:13} {'ready' if ready[name] else 'not prepared':13} {shape:8} classes: {sizes}; {facts.about}")
        print(f"{'':13} {facts.size}; licence: {facts.licence}; {facts.get}")
    for kind, about in datasets.KINDS.items():
        print(about)
        for option, text in datasets.FORMATS[kind].OPTIONS.items():
            print(f"{'':13} ?{option}= {text}")


def learners_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax learners`: none."""


def learners(args: Namespace) -> None:
    """List the methods, each with its paper, and the weights that come with the package."""
    for name, method in methods.METHODS.items():
        factory = methods.factory_of(method)
        print(f"{name:12} {factory.about} {factory.reference}")
    if shipped.names():
        print("\nWeights that come with the package, for eval, predict, export and load_run:")
    for name in shipped.names():
        card = shipped.read_card(name)
        best = card["tests"][0]
        score = f"{100 * best['accuracy']:.2f} ± {100 * best['ci95']:.2f} %"
        print(f"{name:20} {card['about']} {best['ways']}-way {best['shots']}-shot on {best['dataset']}: {score}")
        print(f"{'':20} {card['data']} Not for: {card['not_for']}")


def plot_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax plot`."""
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="folders of runs")
    parser.add_argument("--out", type=Path, help="PNG file (default: learning_curve.png in the run's folder)")


def plot(args: Namespace) -> None:
    """Draw the learning curves of runs; of a single run, also an episode."""
    single = args.folders[0] if len(args.folders) == 1 else None
    out = args.out or (single / "learning_curve.png" if single else Path("learning_curves.png"))
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"no folder {out.parent}: give a run's folder, and --out in one that exists")
    from mtl_jax.app import plot

    plot.learning_curve(args.folders, out)
    print(out)
    if single is None:
        return
    import jax

    from mtl_jax import datasets, sample_episode

    settings = runs.read_settings(single)
    task = settings.task
    try:
        pool = runs.load_pool(settings, datasets.info(str(task.dataset)).splits[-1])
    except (ValueError, OSError) as error:  # the curve needs no data; they may be on another machine
        print(f"mtl-jax: no picture of an episode: {' '.join(str(error).split())}", file=sys.stderr)
        return
    ways, shots = min(task.ways, pool.classes, 10), min(task.shots, pool.smallest - 1, 10)
    queries = min(task.queries, pool.smallest - shots, 10)
    episode = sample_episode(jax.random.key(settings.run.seed), pool, ways, shots, queries)
    plot.episode_grid(episode, out.with_name("episode.png"))
    print(out.with_name("episode.png"))
