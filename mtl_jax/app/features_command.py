"""The command features: what a frozen backbone makes of a data set."""

import json
from argparse import Namespace
from pathlib import Path

from mtl_jax.app import options
from mtl_jax.app.options import Parser


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
    from mtl_jax.run.progress import counted

    with counted("images") as say:
        about = write_features(args.backbone, args.dataset, args.out, args.image_size, args.split_file, say)
    result = {"backbone": args.backbone, "dataset": args.dataset, **about, "out": str(args.out)}
    line = "{images} images of {image_size} pixels as {features} features, {images_per_s:.0f} images/s: {out}"
    print(json.dumps(result) if args.json else line.format(**result))
