"""Augmented copies of a task's images at test: the options that ask for them, and what they ask for."""

from argparse import SUPPRESS
from collections.abc import Mapping
from typing import Any

from mtl_jax.app import options
from mtl_jax.app.options import Parser
from mtl_jax.app.settings import Settings
from mtl_jax.data.augmentations import VARIATIONS

HELP = {
    "support_copies": "adapt to N augmented copies of each support image too (default: 0)",
    "query_copies": "average the probabilities of each query and of N augmented copies of it (default: 0)",
}
OF_FEATURES = "copies are of images, and a backbone's features are made once: leave copies and --vary out"


def add_copies(parser: Parser, *names: str) -> None:
    """--vary and, unless `names` has some of them alone, --support-copies and --query-copies."""
    for name in names or HELP:
        number = options.value_of(name, int, {"least": 0, "most": 1000})
        parser.add_argument(f"--{name.replace('_', '-')}", type=number, default=0, metavar="N", help=HELP[name])
    how = options.value_of("vary", str, {"choices": VARIATIONS})
    text = "how copies differ (default: as images did in the run's training)"
    parser.add_argument("--vary", type=how, default=SUPPRESS, metavar="|".join(VARIATIONS), help=text)


def copies_of(settings: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the options ask for, as `build_learner` takes it: vary, support_copies, query_copies; empty for no copies.

    Raises:
        ValueError: `vary` without copies, or copies of a backbone's features or of a run that varied no image.
    """
    numbers = {name: given.get(name, 0) for name in HELP}
    if not any(numbers.values()):
        if "vary" in given:
            raise ValueError("--vary says how copies differ, and none are asked for: give --support-copies N")
        return {}
    if settings.network.backbone:
        raise ValueError(OF_FEATURES)
    from mtl_jax.data.augment import variation_of

    vary = given.get("vary") or variation_of(settings.task.augment)
    if vary is None:
        raise ValueError(
            f"training varied no image (augment {settings.task.augment}): give --vary {' or '.join(VARIATIONS)}"
        )
    return {"vary": vary, **numbers}


def in_words(copies: Mapping[str, Any]) -> str:
    """What was asked for, behind a figure."""
    told = "; augmented copies ({vary}): {support_copies} of each support image, {query_copies} of each query"
    return told.format(**copies)
