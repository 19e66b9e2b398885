"""The command predict: pictures named by a folder of examples."""

import json
import os
import sys
from argparse import SUPPRESS, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mtl_jax.app import methods, options, runs
from mtl_jax.app.export import is_exported
from mtl_jax.app.options import Parser

if TYPE_CHECKING:
    from mtl_jax.app.classifier import Classifier
    from mtl_jax.app.held_out import Estimate
    from mtl_jax.app.pictures import Queries, Support
    from mtl_jax.app.predict import Prediction, Score
WEIGHTS = (".safetensors", ".pth", ".pt", ".bin")  # a file of a backbone's weights, and not a run


class Source(NamedTuple):
    """A run or a backbone: its name, the images it reads, and the function that adapts it to a support set."""

    name: str
    size: int
    channels: int
    adapt: "Callable[[Support], Classifier]"


def predict_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax predict`."""
    text = "folder of a run, a frozen backbone (lite0, or a file of weights), or what mtl-jax export wrote"
    parser.add_argument("run", metavar="RUN", help=text)
    text = "folder: one sub-folder of images per class; not for what is exported"
    parser.add_argument("--support", type=Path, help=text)
    text = "a folder of images, with a sub-folder per class where these are known, or image files"
    parser.add_argument("--query", type=Path, nargs="+", required=True, help=text)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write file, class, probability and second best here")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page with the pictures here")
    add_adapting(parser)
    options.add_common(parser, "--json", "--no-cache")


def add_adapting(parser: Parser, norm: bool = True) -> None:
    """What predict and export have in common."""
    parser.add_argument("--invert", action="store_true", help="dark ink on light paper, for runs on glyphs or omniglot")
    size = options.count("image_size", 4096)
    parser.add_argument("--image-size", type=size, default=SUPPRESS, metavar="N", help="a backbone's pixels of a side")
    parts = options.value_of("folds", int, {"least": 0, "most": 1000})
    text = "parts of the support set that are left out in turn, to say how good to expect; 0 for none "
    text += "(default: each image alone up to 30, else 10)"
    parser.add_argument("--folds", type=parts, default=SUPPRESS, metavar="N", help=text)
    if norm:
        options.add_norm(parser, "support, where the run has transductive: each image is then on its own")


def predict(args: Namespace) -> None:
    """Classify images by a folder of examples."""
    for path in (args.csv, args.html):
        check_writable(path)
    from mtl_jax.app.pictures import read_queries, read_support
    from mtl_jax.app.predict import as_dict, score, table_of, write_csv
    from mtl_jax.app.predict import predict as answer

    known = expected = None
    if is_exported(args.run):
        classifier, expected = _exported(args)
        queries = read_queries(args.query, classifier.names, classifier.shape[0], classifier.shape[2])
    else:
        if args.support is None:
            raise ValueError("no support set: give --support a folder with one sub-folder of images per class")
        source = find_source(args.run, args)
        known = read_support(args.support, source.size, source.channels)
        queries = read_queries(args.query, known.names, source.size, source.channels)
        classifier = source.adapt(known)
        expected = expect(classifier, args)
    found, compared = answer(classifier, queries, expected.temperature if expected else 1.0)
    scored = score(found, classifier.names)
    result: dict[str, Any] = {"norm": classifier.norm, "predictions": [_row(each) for each in found]}
    result["skipped"] = [str(path) for path in (*(known.skipped if known else ()), *queries.skipped)]
    result |= {"expected": said(expected)} if expected else {}
    result |= as_dict(scored) if scored else {}
    if args.csv:
        write_csv(found, args.csv)
        print(f"{len(found)} predictions in {args.csv}", file=sys.stderr)
    if args.html:
        _write_page(args, classifier, known, queries, found, compared, expected, scored)
        print(f"{len(found)} predictions in {args.html}", file=sys.stderr)
    if args.json:
        print(json.dumps(result))
        return
    if not args.csv and not args.html:
        for each in found:
            print(f"{each.file}\t{each.label}\t{each.probability:.3f}\t{each.second}")
    if scored:
        print(table_of(scored))


def _write_page(
    args: Namespace,
    classifier: "Classifier",
    known: "Support | None",
    queries: "Queries",
    found: "Sequence[Prediction]",
    compared: Any,
    expected: "Estimate | None",
    scored: "Score | None",
) -> None:
    from mtl_jax.app.classifier import run
    from mtl_jax.app.page import write_page

    facts, notes = [], [f"Norm {classifier.norm}."]
    if known:
        notes.append(f"The nearest pictures are those whose {classifier.compares} of the learner are nearest.")
    if scored:
        facts.append(("right", _percent(scored.accuracy), f"{_between(scored)} of {len(found)} pictures"))
    if expected:
        facts.append(("to be expected", _percent(expected.accuracy), f"{_between(expected)}, by the support set"))
        notes.append(
            f"To be expected: so many of the {expected.images} labelled pictures are right, each judged by a learner "
            "that has not seen it; in brackets the 95 % interval. Probabilities are calibrated by them (temperature "
            f"{expected.temperature:.3g}; calibration error {expected.ece_before:.3f} before, "
            f"{expected.ece_after:.3f} after)."
        )
    if skipped := len(known.skipped if known else ()) + len(queries.skipped):
        facts.append(("not read", str(skipped), "named below"))
    both = (compared, run(classifier, known.images)[1]) if known else None
    name = Path(args.run).name
    write_page(args.html, name, found, queries, both, known, classifier.names, facts, scored, notes)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _between(of: "Estimate | Score") -> str:
    return f"({100 * of.low:.0f} to {100 * of.high:.0f})"


def _exported(args: Namespace) -> "tuple[Classifier, Estimate | None]":
    from mtl_jax.app.export import load_exported

    given = {"support": args.support, "invert": args.invert or None, **vars(args)}
    if odd := [k for k in ("support", "invert", "norm", "image_size", "folds") if given.get(k)]:
        flag = odd[0].replace("_", "-")
        raise ValueError(f"{args.run} is exported, its support set and settings inside: leave --{flag} out")
    classifier, expected = load_exported(Path(args.run))
    if expected:
        print(_expectation(classifier, expected), file=sys.stderr)
    return classifier, expected


def find_source(run: str, args: Namespace) -> Source:
    """A run or a backbone by its name, before it has seen a picture."""
    from mtl_jax.app.classifier import image_shape_of, of_backbone, of_run

    if is_backbone(run):
        if hasattr(args, "norm") or args.invert:
            raise ValueError("a frozen backbone has moments of its own (norm frozen): leave --norm and --invert out")
        return Source(run, getattr(args, "image_size", None) or _side(run), 3, lambda known: of_backbone(run, known))
    if hasattr(args, "image_size"):
        raise ValueError("--image-size is for a backbone: a run has the size that it was trained on")
    trained = runs.read_settings(run)
    # The moments of a batch of queries depend on which images happen to be asked for together.
    usual = "support" if trained.network.norm == "transductive" else trained.network.norm
    settings = methods.change(trained, norm=getattr(args, "norm", usual))
    size, _, channels = image_shape_of(settings)

    def adapt(known: "Support") -> "Classifier":
        classifier = of_run(settings, runs.load_theta(run, trained), known, args.invert)
        if settings.network.norm != trained.network.norm and not hasattr(args, "norm"):
            print(
                f"mtl-jax: norm {settings.network.norm}: each image is normalised by the support set's moments "
                "(--norm transductive: by those of all images asked for)",
                file=sys.stderr,
            )
        return classifier

    return Source(run, size, channels, adapt)


def is_backbone(name: str) -> bool:
    """Whether a name is a backbone's, or a file of weights, rather than a run's folder."""
    from mtl_jax.models.info import INFO

    return not Path(name).is_dir() and (name in INFO or Path(name).suffix in WEIGHTS)


def expect(classifier: "Classifier", args: Namespace) -> "Estimate | None":
    """What the support set says of the classifier, printed; None where no class has two images, or none is wanted."""
    from mtl_jax.app.held_out import estimate

    parts = getattr(args, "folds", None)
    if parts == 1:
        raise ValueError("--folds 1 leaves nothing to learn from: give 2 or more, or 0 for no estimate")
    if parts == 0 or classifier.held_out is None:
        return None
    found = estimate(classifier.held_out(parts))
    if found is None:
        print("mtl-jax: no class has two images: how good to expect cannot be said", file=sys.stderr)
        return None
    print(_expectation(classifier, found), file=sys.stderr)
    return found


def _expectation(classifier: "Classifier", found: "Estimate") -> str:
    shares = (f"{100 * share:.0f}" for share in found[:3])
    text = "mtl-jax: norm {}; expect {} % right ({} to {}): so the {} support images do, each judged by the others"
    return text.format(classifier.norm, *shares, found.images)


def said(found: "Estimate") -> dict[str, Any]:
    """An estimate as JSON has it."""
    names = ("accuracy", "images", "temperature", "ece_before", "ece_after", "nll")
    return {k: getattr(found, k) for k in names} | {"ci95": [found.low, found.high]}


def check_writable(path: Path | None) -> None:
    """Raise unless a file can be written there, before anything is computed."""
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} to write {path.name} in: make it first")
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise ValueError(f"{path} cannot be written: give the name of a file in a folder of yours")


def _side(backbone: str) -> int:
    from mtl_jax.models.info import INFO

    return INFO[backbone].input_size if backbone in INFO else 224


def _row(each: Any) -> dict[str, Any]:
    row = {"file": str(each.file), "class": each.label, "probability": each.probability, "second": each.second}
    return row if each.truth is None else row | {"true": each.truth}


def features_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax features`."""
    parser.add_argument("backbone", metavar="BACKBONE", help="lite0, lite1, lite2, or a file of weights")
    parser.add_argument("--dataset", required=True, help="a name (see mtl-jax datasets), or folder:/path and the like")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="what npz:FILE.npz then reads")
    size = options.count("image_size", 4096)
    parser.add_argument("--image-size", type=size, metavar="N", help="pixels of a side (default: the backbone's)")
    parser.add_argument("--split-file", help="JSON file of the classes of train, val and test")
    options.add_common(parser, "--json", "--no-cache")


def features(args: Namespace) -> None:
    """Write the features that a frozen backbone has for every image of a data set."""
    from mtl_jax.app.features import write_features
    from mtl_jax.app.progress import counted

    with counted("images") as say:
        about = write_features(args.backbone, args.dataset, args.out, args.image_size, args.split_file, say)
    result = {"backbone": args.backbone, "dataset": args.dataset, **about, "out": str(args.out)}
    line = "{images} images of {image_size} pixels as {features} features, {images_per_s:.0f} images/s: {out}"
    print(json.dumps(result) if args.json else line.format(**result))
