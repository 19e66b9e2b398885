"""The settings of `methods.DEFAULTS` as options of the command line."""

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
    "test_steps": {"type": count, "help": "those at validation and test, if not as many"},
    "inner_lr": {"type": rate, "help": "rate of these steps"},
    "order": {"type": int, "choices": (1, 2), "help": "2: exact meta-gradient, 1: first order"},
    "steps": {"type": count, "help": "meta-steps in all"},
    "meta_lr": {"type": rate, "help": "outer rate"},
    "schedule": {"choices": ("constant", "cosine", "linear", "step"), "help": "of the outer rate"},
    "optimizer": {"choices": ("adam", "adamw", "sgd"), "help": "outer rule"},
    "momentum": {"type": rate, "help": "of sgd"},
    "weight_decay": {"type": rate, "help": "of adamw and sgd"},
    "clip": {"type": rate, "help": "largest norm of the meta-gradient, 0 for none"},
    "model": {"choices": ("conv4", "resnet12"), "help": "network"},
    "precision": {"choices": ("float32", "bfloat16"), "help": "of the network's arithmetic; parameters stay float32"},
    "norm": {"choices": ("transductive", "support", "none"), "help": "whose moments normalise the queries"},
    "width": {"type": count, "help": "filters of the first block; 64 of conv4, 16 of resnet12"},
    "downsample": {"choices": ("pool", "stride"), "help": "conv4's: max-pool, or convolutions of stride 2"},
    "batch": {"type": count, "help": "images of a pre-training step; finetune and baseline-pp"},
    "label_smoothing": {"type": rate, "help": "of the pre-training loss"},
    "init": {"help": "folder of a run whose network to start from"},
    "pretrain_steps": {"type": count, "help": "steps of the pre-training that mtl does where --init gives no run"},
    "transfer": {
        "choices": ("scale_shift", "scale", "shift", "film", "full", "none"),
        "help": "what mtl learns of the network beside its head (default: scale_shift)",
    },
    "inner_rule": {"choices": ("sgd", "adam"), "help": "reptile's inner optimiser (default: sgd)"},
    "hard_tasks": {"action": "store_true", "help": "draw every second step's tasks from classes that failed"},
    "task_chunk": {"type": count, "help": "tasks at a time: less memory, the same result"},
    "val_every": {"type": count, "help": "meta-steps between validations"},
    "val_episodes": {"type": count, "help": "episodes of a validation"},
    "log_every": {"type": count, "help": "meta-steps of a row in metrics.jsonl"},
    "seed": {"type": seed, "help": "of all randomness"},
}


OF_EVAL = ("ways", "shots", "queries", "inner_steps", "norm")
OF_BENCH = (
    "ways", "shots", "queries", "tasks", "inner_steps", "inner_lr", "order", "model", "precision", "norm", "width",
    "downsample", "batch", "transfer", "inner_rule", "task_chunk", "seed",
)  # fmt: skip
OF_PRETRAIN = (
    "ways", "shots", "queries", "steps", "batch", "meta_lr", "schedule", "optimizer", "momentum", "weight_decay",
    "clip", "label_smoothing", "model", "precision", "norm", "width", "downsample", "init", "val_every", "val_episodes",
    "log_every", "seed",
)  # fmt: skip
