"""The two recipes of minutes_to_accuracy.py, and the clock and log that ours and PyTorch's side share."""

import argparse
import json
import time
from pathlib import Path

EPISODES = 200  # of a validation, 5-way 1-shot
RECIPES = {
    "protonet": {
        "about": "ProtoNet, 60-way 1-shot episodes of 5 queries, conv4-64",
        "target": 0.97, "ways": 60, "queries": 5, "tasks": 1, "steps": 1500, "val_every": 100, "val_queries": 15,
    },
    "maml": {
        "about": "MAML, second order, 5-way 1-shot, 32 tasks, 1 inner step (3 at test), strided conv4-64, validated "
        "with one query per class as in its paper",
        "target": 0.95, "ways": 5, "queries": 1, "tasks": 32, "steps": 12000, "val_every": 250, "val_queries": 1,
    },
}  # fmt: skip
META_LR, CLIP, INNER_LR, TEST_STEPS = 2e-3, 10.0, 0.4, 3


def arguments(about: str) -> argparse.Namespace:
    """What either side is given."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=tuple(RECIPES))
    parser.add_argument("--began", type=float, required=True, help="the clock when the process was started")
    parser.add_argument("--log", type=Path, required=True, help="gets a line for every validation")
    parser.add_argument("--limit", type=int, help="steps after which to give up (default: the recipe's)")
    parser.add_argument("--val-every", type=int, help="default: the recipe's")
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--width", type=int, default=64)
    return parser.parse_args()


class Clock:
    """Validations as they come, each with its time since the process was started."""

    def __init__(self, args: argparse.Namespace):
        """Start a new log."""
        self.recipe = RECIPES[args.recipe]
        self.began, self.log, self.rows = args.began, args.log, []
        self.limit = min(args.limit or self.recipe["steps"], self.recipe["steps"])
        self.log.write_text("")

    def seen(self, step: int, accuracy: float) -> bool:
        """Note a validation; whether that ends the run."""
        self.rows.append({"step": step, "accuracy": accuracy, "seconds": time.time() - self.began})
        with self.log.open("a") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")
        return accuracy >= self.recipe["target"] or step >= self.limit

    def report(self, **parts: float) -> None:
        """Print what it took: seconds to the target, None where that was not reached; and `parts`."""
        last = self.rows[-1]
        done = last["accuracy"] >= self.recipe["target"]
        whole = {"seconds": last["seconds"] if done else None, "steps": last["step"], "spent": last["seconds"]}
        print(json.dumps(whole | {"best": max(row["accuracy"] for row in self.rows)} | parts))
