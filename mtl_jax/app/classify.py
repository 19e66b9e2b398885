"""The commands that turn images into features and classes: predict and features."""

import json
import sys
from argparse import SUPPRESS, Namespace
from pathlib import Path

from mtl_jax.app import methods, options, runs
from mtl_jax.app.options import Parser

WEIGHTS = (".safetensors", ".pth", ".pt", ".bin")  # a file of a backbone's weights, and not a run


def predict_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax predict`."""
    parser.add_argument("run", metavar="RUN", help="folder of a run, or a frozen backbone: lite0, or a file of weights")
    parser.add_argument("--support", type=Path, required=True, help="folder: one sub-folder of images per class")
    parser.add_argument("--query", type=Path, nargs="+", required=True, help="a folder of images, or image files")
    parser.add_argument("--csv", type=Path, help="write file, class, probability and second best here")
    parser.add_argument("--invert", action="store_true", help="dark ink on light paper, for runs on glyphs or omniglot")
    size = options.count("image_size", 4096)
    parser.add_argument("--image-size", type=size, default=SUPPRESS, metavar="N", help="a backbone's pixels of a side")
    options.add_norm(parser, "support, where the run has transductive: each image is then on its own")
    options.add_common(parser, "--json", "--no-cache")


def predict(args: Namespace) -> None:
    """Classify images by a folder of examples."""
    if args.csv and not args.csv.absolute().parent.is_dir():
        raise FileNotFoundError(f"no folder {args.csv.parent} to write {args.csv.name} in: make it first")
    found, norm = _of_backbone(args) if is_backbone(args.run) else _of_run(args)
    if args.csv:
        from mtl_jax.app.predict import write_csv

        write_csv(found, args.csv)
        print(f"{len(found)} predictions in {args.csv}", file=sys.stderr)
    names = ("file", "class", "probability", "second")
    rows = [dict(zip(names, (str(each.file), *each[1:]), strict=True)) for each in found]
    if args.json:
        print(json.dumps({"norm": norm, "predictions": rows}))
    elif not args.csv:
        for row in rows:
            print(f"{row['file']}\t{row['class']}\t{row['probability']:.3f}\t{row['second']}")


def is_backbone(name: str) -> bool:
    """Whether a name is a backbone's, or a file of weights, rather than a run's folder."""
    from mtl_jax.models.info import INFO

    return not Path(name).is_dir() and (name in INFO or Path(name).suffix in WEIGHTS)


def _of_run(args: Namespace) -> tuple[list, str]:
    if hasattr(args, "image_size"):
        raise ValueError("--image-size is for a backbone: a run has the size that it was trained on")
    trained = runs.read_settings(args.run)
    # The moments of a batch of queries depend on which images happen to be asked for together.
    usual = "support" if trained.network.norm == "transductive" else trained.network.norm
    settings = methods.change(trained, norm=getattr(args, "norm", usual))
    from mtl_jax.app.predict import predict

    found = predict(settings, runs.load_theta(args.run, trained), args.support, args.query, args.invert)
    if settings.network.norm != trained.network.norm and not hasattr(args, "norm"):
        print(
            f"mtl-jax: norm {settings.network.norm}: each image is normalised by the support set's moments "
            "(--norm transductive: by those of all images asked for)",
            file=sys.stderr,
        )
    return found, settings.network.norm


def _of_backbone(args: Namespace) -> tuple[list, str]:
    if hasattr(args, "norm") or args.invert:
        raise ValueError("a frozen backbone has moments of its own (norm frozen): leave --norm and --invert out")
    from mtl_jax.app.predict import predict_frozen

    found, expected = predict_frozen(args.run, args.support, args.query, getattr(args, "image_size", None))
    if expected is not None:
        shares = (f"{100 * share:.0f}" for share in (expected.accuracy, expected.low, expected.high))
        text = "mtl-jax: norm frozen; expect {} % right ({} to {}): so the {} support images do, each left out in turn"
        print(text.format(*shares, expected.images), file=sys.stderr)
    return found, "frozen"


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
