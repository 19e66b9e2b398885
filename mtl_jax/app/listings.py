"""The commands that list: data sets, learners."""

from argparse import Namespace
from pathlib import Path

from mtl_jax.app import methods, shipped
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
