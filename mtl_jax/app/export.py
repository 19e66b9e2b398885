"""The command export: an adapted classifier as one program for CPU, CUDA and TPU, which needs none of this package."""

import json
import shutil
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl_jax import __version__
from mtl_jax.app.options import Parser, add_common

if TYPE_CHECKING:
    from mtl_jax.app.classifier import Classifier
    from mtl_jax.app.held_out import Estimate

ABOUT, PROGRAM = "classifier.json", "classifier.jaxexport"
PLATFORMS = ("cpu", "cuda", "tpu")
BATCH = 32  # images at a time, where predict uses the program


def export_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax export`."""
    from mtl_jax.app.classify import add_adapting

    parser.add_argument("run", metavar="RUN", help="folder of a run, or a frozen backbone: lite0, or a file of weights")
    parser.add_argument("--support", type=Path, required=True, help="folder: one sub-folder of images per class")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, which must not exist")
    add_adapting(parser, norm=False)
    add_common(parser, "--json", "--no-cache")


def export(args: Namespace) -> None:
    """Write a classifier, adapted to a folder of examples, as a program."""
    out = args.out
    if out.exists():
        raise ValueError(f"{out} exists already: give --out a new folder")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"no folder {out.parent} to write {out.name} in: make it first")
    if is_exported(args.run):
        raise ValueError(f"{args.run} is exported already: give export a run or a backbone")
    from mtl_jax.app.classify import adapt_and_expect, check_folds, find_source, tell
    from mtl_jax.app.pictures import read_support
    from mtl_jax.run.progress import announce

    check_folds(args)
    source = find_source(args.run, args)
    known = read_support(args.support, source.size, source.channels)
    announce(f"adapting {args.run} to {len(known.labels)} pictures and writing its program, up to a minute")
    candidate = adapt_and_expect(source, known, args)
    tell(candidate)
    about = write_exported(out, candidate.classifier, candidate.expected, Path(args.run).name)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"mtl-jax: {out} is for {', '.join(PLATFORMS)} by JAX {about['jax']} or newer", file=sys.stderr)
    shown = {k: about[k] for k in ("source", "norm", "classes", "image", "platforms")}
    text = f"{len(known.names)} classes, {size / 2**20:.1f} MiB: {out}"
    print(json.dumps({**shown, "bytes": size, "out": str(out)}) if args.json else text)


def write_exported(out: Path, classifier: "Classifier", expected: "Estimate | None", source: str) -> dict[str, Any]:
    """Write a classifier's program, and what must be known to use it, as a folder, whole or not at all.

    The program is x [n, height, width, channels] uint8 -> (probabilities [n, ways], logits [n, ways]) for any n, with
    p(k | x) = softmax_k(temperature logits(x)).

    Args:
        out: the folder, which must not exist.
        classifier: adapted; every image must be independent of the others in its batch.
        expected: what `estimate` found; None for a temperature of 1.
        source: name of the run or backbone, to be kept.

    Returns:
        What the JSON file in the folder holds.

    Raises:
        ValueError: the package flatbuffers is not installed, or an image's outputs depend on others.
    """
    import jax
    import jax.export
    import jax.numpy as jnp

    if classifier.together:
        raise ValueError("an exported program answers each image by itself, which nothing transductive does")
    temperature = expected.temperature if expected else 1.0

    def program(x: "jax.Array") -> "tuple[jax.Array, jax.Array]":
        logits = classifier.outputs(classifier.weights, x)[0].astype(jnp.float32)
        return jax.nn.softmax(temperature * logits, axis=-1), logits

    height, width, channels = classifier.shape
    symbols = jax.export.symbolic_shape(f"n, {height}, {width}, {channels}")
    exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(jax.ShapeDtypeStruct(symbols, jnp.uint8))
    try:
        data = exported.serialize()
    except ImportError:
        raise ValueError("export needs the library flatbuffers: pip install flatbuffers") from None
    about: dict[str, Any] = {
        "format": 1,
        "program": PROGRAM,
        "source": source,
        "classes": list(classifier.names),
        "image": [height, width, channels],
        "mode": "L" if channels == 1 else "RGB",
        "preprocessing": "upright by EXIF, on white where transparent, converted to mode, resized by Lanczos; uint8",
        "norm": classifier.norm,
        "temperature": temperature,
        "expected": None if expected is None else {**expected._asdict(), "confidences": expected.confidences.tolist()},
        "platforms": list(PLATFORMS),
        "mtl_jax": __version__,
        "jax": jax.__version__,
    }
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.absolute().parent))
    try:
        folder.chmod(0o755)
        (folder / PROGRAM).write_bytes(data)
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return about


def is_exported(name: str) -> bool:
    """Whether a name is of a folder that `mtl-jax export` wrote."""
    return (Path(name) / ABOUT).is_file()


def load_exported(folder: Path) -> "tuple[Classifier, Estimate | None]":
    """Read what `write_exported` wrote, as a classifier whose support set is inside.

    Raises:
        ValueError: a file of it is missing or damaged.
    """
    import jax.export
    import numpy as np

    from mtl_jax.app.classifier import Classifier
    from mtl_jax.app.held_out import Estimate

    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        height, width, channels = about["image"]
        names, norm, stored = tuple(about["classes"]), about["norm"], about["expected"]
        expected = stored and Estimate(**{**stored, "confidences": np.asarray(stored["confidences"])})
        exported = jax.export.deserialize((folder / about["program"]).read_bytes())
        if exported.in_avals[0].shape[1:] != (height, width, channels):
            raise ValueError(f"{ABOUT} is of other images than the program")
    except Exception as error:  # flatbuffers raises of all kinds on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{folder} cannot be read ({reason}): export it again") from None

    def outputs(weights: None, x: "jax.Array") -> "tuple[jax.Array, jax.Array]":
        logits = exported.call(x)[1]
        return logits, logits

    classifier = Classifier(names, (height, width, channels), norm, None, outputs, "outputs", False, BATCH, None)
    return classifier, expected
