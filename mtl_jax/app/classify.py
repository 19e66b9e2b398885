"""The command predict: pictures named by a folder of examples."""

import json
import os
import sys
from argparse import SUPPRESS, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mtl_jax.app import frozen, methods, options, runs
from mtl_jax.app.copies import OF_FEATURES, add_copies, copies_of
from mtl_jax.app.export import is_exported
from mtl_jax.app.options import Parser

if TYPE_CHECKING:
    from mtl_jax.app.classifier import Classifier
    from mtl_jax.app.held_out import Estimate
    from mtl_jax.app.pictures import Queries, Support


class Source(NamedTuple):
    """A run or a backbone: its name, the images it reads, what adapts it to a support set, and what to tell of it."""

    name: str
    size: int
    channels: int
    adapt: "Callable[[Support], Classifier]"
    note: str = ""


class Candidate(NamedTuple):
    """A classifier that is ready: its support set (None where it was exported), what to expect and to tell of it."""

    name: str
    classifier: "Classifier"
    known: "Support | None"
    expected: "Estimate | None"
    note: str = ""


def predict_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax predict`."""
    text = "folder of a run; a frozen backbone (lite0, or a file of weights), with a learner's head as lite0:rfs; "
    text += "or what mtl-jax export wrote"
    parser.add_argument("run", metavar="RUN", help=text)
    text = "folder: one sub-folder of images per class; not for what is exported"
    parser.add_argument("--support", type=Path, help=text)
    text = "a folder of images, with a sub-folder per class where these are known, or image files"
    parser.add_argument("--query", type=Path, nargs="+", required=True, help=text)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write file, class, probability and second best here")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page with the pictures here")
    text = "other runs, backbones and heads, of which and RUN the one is taken that does best inside the support set"
    parser.add_argument("--choose", nargs="+", default=[], metavar="RUN", help=text)
    rate = options.value_of("reject", float, {"least": 0.0, "most": 0.999})
    text = "leave the class empty where none fits: as many of the support set's own images would be, left out"
    parser.add_argument("--reject", type=rate, metavar="RATE", help=text)
    add_adapting(parser)
    options.add_common(parser, "--json", "--no-cache")


def add_adapting(parser: Parser, norm: bool = True) -> None:
    """What predict and export have in common."""
    parser.add_argument("--invert", action="store_true", help="dark ink on light paper, for runs on glyphs or omniglot")
    size = options.count("image_size", 4096)
    parser.add_argument("--image-size", type=size, default=SUPPRESS, metavar="N", help="a backbone's pixels of a side")
    parts = options.value_of("folds", int, {"least": 0, "most": 1000})
    text = "parts of the support set that are left out in turn, to say how good to expect; 0 for none "
    text += "(default: as many as the largest class has images, 10 at most)"
    parser.add_argument("--folds", type=parts, default=SUPPRESS, metavar="N", help=text)
    add_copies(parser, "support_copies")
    if norm:
        options.add_norm(parser, "support, where the run has transductive: each image is then on its own")


def predict(args: Namespace) -> None:
    """Classify images by a folder of examples."""
    for path in (args.csv, args.html):
        check_writable(path)
    from mtl_jax.app import report
    from mtl_jax.app.held_out import threshold
    from mtl_jax.app.predict import predict as answer
    from mtl_jax.app.predict import score, write_csv

    ready, queries = _exported(args) if is_exported(args.run) else _adapted(args)
    choices: list[dict[str, Any]] = []
    chosen, reject = ready[0], None
    if args.choose:
        chosen, choices = choose(ready)
    tell(chosen)
    name, classifier, known, expected, _ = chosen
    if queries.images.shape[1:] != classifier.shape:
        queries = _queries(args, classifier.names, classifier.shape[0], classifier.shape[2], quiet=True)
    if args.reject is not None:
        if expected is None:
            raise ValueError("--reject needs a class with two labelled images or more, to find its threshold by")
        reject = args.reject, threshold(expected.confidences, args.reject)
    temperature = expected.temperature if expected else 1.0
    found, compared = answer(classifier, queries, temperature, reject and reject[1])
    scored = score(found, classifier.names)
    name = Path(name).name
    all_of_it = report.Report(name, classifier, known, queries, found, compared, expected, scored, reject, choices)
    if reject:
        print(f"mtl-jax: {all_of_it.empty} of {len(found)} images are left without a class", file=sys.stderr)
    if args.csv:
        write_csv(found, args.csv)
    if args.html:
        report.as_page(all_of_it, args.html)
    for path in filter(None, (args.csv, args.html)):
        print(f"{len(found)} predictions in {path}", file=sys.stderr)
    if args.json:
        print(json.dumps(report.as_json(all_of_it)))
    elif text := report.as_text(all_of_it, rows=not (args.csv or args.html)):
        print(text)


def choose(ready: "Sequence[Candidate]") -> "tuple[Candidate, list[dict[str, Any]]]":
    """(The candidate that is right most often inside the support set, and of equals the likeliest; a row for each)."""
    from mtl_jax.app.report import estimate_as_dict

    if any(each.expected is None for each in ready):
        raise ValueError("--choose needs a class with two labelled images or more, to choose by")
    chosen = max(ready, key=lambda each: (each.expected.accuracy, -each.expected.nll) if each.expected else (0.0, 0.0))
    wide = max(len(each.name) for each in ready)
    rows = []
    for each in ready:
        assert each.expected is not None
        row = estimate_as_dict(each.expected)
        rows.append({"run": each.name, "chosen": each is chosen, **row})
        shares = "{:5.1f} % ({:.0f} to {:.0f})".format(*(100 * share for share in each.expected[:3]))
        mark = "  chosen" if each is chosen else ""
        print(f"mtl-jax: {each.name:<{wide}}  {shares}, -log p {each.expected.nll:.3f}{mark}", file=sys.stderr)
    return chosen, rows


def adapt_and_expect(source: Source, known: "Support", args: Namespace) -> Candidate:
    """Adapt a run or a backbone to a support set, and see how good it will be."""
    classifier = source.adapt(known)
    return Candidate(source.name, classifier, known, expect(classifier, args), source.note)


def find_source(run: str, args: Namespace, alone: bool = True) -> Source:
    """A run or a backbone by its name, before it has seen a picture.

    Args:
        run: the name.
        args: what was given of `add_adapting`'s options.
        alone: whether options that do not concern it are refused, as nothing else is there that they could concern.
    """
    from mtl_jax.app.classifier import image_shape_of, of_run

    if frozen.is_backbone(run):
        if alone and (hasattr(args, "norm") or args.invert):
            raise ValueError("a frozen backbone has moments of its own (norm frozen): leave --norm and --invert out")
        if alone and (args.support_copies or hasattr(args, "vary")):
            raise ValueError(OF_FEATURES)
        if alone and getattr(args, "folds", None):
            raise ValueError(
                "a backbone's images are each left out alone: leave --folds out, or give 0 for no estimate"
            )
        return _of_backbone(run, args)
    if alone and hasattr(args, "image_size"):
        raise ValueError("--image-size is for a backbone: a run has the size that it was trained on")
    trained = runs.read_settings(run)
    # The moments of a batch of queries depend on which images happen to be asked for together.
    usual = "support" if trained.network.norm == "transductive" else trained.network.norm
    settings = methods.change(trained, norm=getattr(args, "norm", usual))
    size, _, channels = image_shape_of(settings)
    copies = copies_of(settings, vars(args))

    def adapt(known: "Support") -> "Classifier":
        return of_run(settings, runs.load_theta(run, trained), known, args.invert, copies)

    note = (
        "each image is normalised by the support set's moments (--norm transductive: by those of all images asked for)"
    )
    changed = settings.network.norm != trained.network.norm and not hasattr(args, "norm")
    return Source(run, size, channels, adapt, note if changed else "")


def _of_backbone(name: str, args: Namespace) -> Source:
    """A backbone with the means of its features, or with a learner's head on them."""
    from mtl_jax.app.classifier import of_backbone, of_run
    from mtl_jax.app.features import dimension_of, side_of

    backbone, head = frozen.split_name(name)
    size = getattr(args, "image_size", None) or side_of(backbone)
    if head is None:
        return Source(name, size, 3, lambda known: of_backbone(name, known))
    frozen.settings_of(name, None)  # what is no head is refused at once

    def adapt(known: "Support") -> "Classifier":
        task = {"ways": len(known.names), "image_size": size, "image_shape": (dimension_of(backbone),)}
        settings = frozen.settings_of(name, None, **task)
        return of_run(settings, frozen.fresh_theta(settings), known)

    together = methods.find_method(head).transductive
    return Source(name, size, 3, adapt, "all images asked for are answered together (transductive)" if together else "")


def expect(classifier: "Classifier", args: Namespace) -> "Estimate | None":
    """What the support set says of the classifier, printed; None where no class has two images, or none is wanted."""
    from mtl_jax.app.held_out import estimate

    parts = getattr(args, "folds", None)
    if parts == 0 or classifier.held_out is None:
        return None
    found = estimate(classifier.held_out(parts))
    if found is None and not getattr(args, "choose", None) and getattr(args, "reject", None) is None:
        print("mtl-jax: no class has two images: how good to expect cannot be said", file=sys.stderr)
    return found


def tell(candidate: Candidate) -> None:
    """What it is normalised by and what to expect of it, for people."""
    norm, found = candidate.classifier.norm, candidate.expected
    if candidate.note:
        print(f"mtl-jax: norm {norm}: {candidate.note}", file=sys.stderr)
    if found is not None:
        shares = (f"{100 * share:.0f}" for share in found[:3])
        text = "mtl-jax: norm {}; expect {} % right ({} to {}): so the {} support images do, each judged by the others"
        print(text.format(norm, *shares, found.images), file=sys.stderr)


def check_folds(args: Namespace) -> None:
    """Raise where --folds leaves nothing to learn from, or nothing that other options need."""
    parts = getattr(args, "folds", None)
    if parts == 1:
        raise ValueError("--folds 1 leaves nothing to learn from: give 2 or more, or 0 for no estimate")
    for flag in ("choose", "reject"):
        if parts == 0 and getattr(args, flag, None) not in (None, []):
            raise ValueError(f"--{flag} goes by the images that are left out: leave --folds 0 out")


def check_writable(path: Path | None) -> None:
    """Raise unless a file can be written there, before anything is computed."""
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} to write {path.name} in: make it first")
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise ValueError(f"{path} cannot be written: give the name of a file in a folder of yours")


def _adapted(args: Namespace) -> "tuple[list[Candidate], Queries]":
    """RUN and all that --choose names, adapted, and the queries as RUN reads them: what is wrong is said first."""
    from mtl_jax.app.pictures import read_support
    from mtl_jax.run.progress import announce

    if args.support is None:
        raise ValueError("no support set: give --support a folder with one sub-folder of images per class")
    check_folds(args)
    if odd := [name for name in args.choose if is_exported(name)]:
        raise ValueError(f"{odd[0]} is exported, and cannot be judged by the support set: leave it out of --choose")
    names = list(dict.fromkeys((args.run, *args.choose)))
    first, *others = [find_source(name, args, alone=len(names) == 1) for name in names]
    known = read_support(args.support, first.size, first.channels)
    queries = _queries(args, known.names, first.size, first.channels)
    read = {(first.size, first.channels): known}
    ready: list[Candidate] = []
    announce(f"adapting {', '.join(names)} to {len(known.labels)} pictures, 2 to 20 s each as a rule")
    for source in (first, *others):
        shape = source.size, source.channels
        if shape not in read:
            read[shape] = read_support(args.support, *shape, quiet=True)
        ready.append(adapt_and_expect(source, read[shape], args))
    return ready, queries


def _exported(args: Namespace) -> "tuple[list[Candidate], Queries]":
    from mtl_jax.app.export import load_exported

    for name in ("support", "invert", "norm", "image_size", "folds", "choose", "support_copies", "vary"):
        if getattr(args, name, None) not in (None, False, []):
            flag = name.replace("_", "-")
            raise ValueError(f"{args.run} is exported, its support set and settings inside: leave --{flag} out")
    classifier, expected = load_exported(Path(args.run))
    queries = _queries(args, classifier.names, classifier.shape[0], classifier.shape[2])
    return [Candidate(args.run, classifier, None, expected)], queries


def _queries(args: Namespace, names: Sequence[str], size: int, channels: int, quiet: bool = False) -> "Queries":
    from mtl_jax.app.pictures import read_queries

    return read_queries(args.query, names, size, channels, args.reject is not None, quiet)
