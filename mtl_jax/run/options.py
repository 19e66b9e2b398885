"""The settings of `setup.DEFAULTS` as options of the command line."""

import argparse
import math
import re
from typing import Any


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.lstrip("+-").isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text}")
    return int(text)


def seed(text: str) -> int:
    """A whole number that a random key takes."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^32 - 1, not {text}")
    return int(text)


def rate(text: str) -> float:
    """A finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, not {text}")
    return value


def image(text: str) -> list[int]:
    """HEIGHTxWIDTHxCHANNELS as three numbers."""
    if not re.fullmatch(r"[1-9]\d{0,3}x[1-9]\d{0,3}x[1-9]\d{0,2}", text):
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTHxCHANNELS, such as 28x28x1, not {text}")
    return [int(part) for part in text.split("x")]


TRAIN_ONLY = ("learner", "dataset", "augment", "image_size")
OPTIONS: dict[str, dict[str, Any]] = {
    "ways": {"type": count, "help": "classes of a task"},
    "shots": {"type": count, "help": "support images a class"},
    "queries": {"type": count, "help": "query images a class"},
    "tasks": {"type": count, "help": "tasks of a meta-step"},
    "inner_steps": {"type": count, "help": "gradient steps of the adaptation"},
    "inner_lr": {"type": rate, "help": "rate of these steps"},
    "order": {"type": int, "choices": (1, 2), "help": "2: exact meta-gradient, 1: first order"},
    "steps": {"type": count, "help": "meta-steps in all"},
    "meta_lr": {"type": rate, "help": "outer rate of Adam; 0.002 for protonet"},
    "schedule": {"choices": ("constant", "cosine", "linear"), "help": "of the outer rate"},
    "clip": {"type": rate, "help": "largest norm of the meta-gradient, 0 for none"},
    "norm": {"choices": ("transductive", "support", "none"), "help": "whose moments normalise the queries"},
    "width": {"type": count, "help": "filters of each block of conv4"},
    "downsample": {"choices": ("pool", "stride"), "help": "max-pool, or convolutions of stride 2"},
    "task_chunk": {"type": count, "help": "tasks at a time: less memory, the same result"},
    "val_every": {"type": count, "help": "meta-steps between validations"},
    "val_episodes": {"type": count, "help": "episodes of a validation"},
    "log_every": {"type": count, "help": "meta-steps of a row in metrics.jsonl"},
    "seed": {"type": seed, "help": "of all randomness"},
}


OF_EVAL = ("ways", "shots", "queries", "inner_steps", "norm")
OF_BENCH = (
    "ways", "shots", "queries", "tasks", "inner_steps", "inner_lr", "order", "norm", "width", "downsample",
    "task_chunk", "seed",
)  # fmt: skip
