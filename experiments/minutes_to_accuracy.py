"""How long people wait for an accuracy: from process start to a validation that reaches it, ours and PyTorch's in turn.

Command: TFDS_DATA_DIR=... python experiments/minutes_to_accuracy.py [RECIPE ...] [--rounds 1] [--limit STEPS]
    [--out runs/minutes_to_accuracy]
    What is done lies in OUT, one file for each run and a log of its validations; the same command goes on after it, and
    the other recipes' rows of OUT/result.json stay. The first run makes an environment for PyTorch in OUT/venv: torch
    is a large download.
Setting: Omniglot, Vinyals split, 28x28, four rotations as classes in training, read through TFDS by both sides,
    conv4-64, Adam 2e-3 on a cosine over the recipe's steps, clipped at 10. protonet: 60-way 1-shot episodes of 5
    queries, 1,500 steps, to 97 %. maml: second order, 32 tasks of 5-way 1-shot and 1 query, 1 inner step of 0.4 (3 at
    test), stride 2, 12,000 steps, to 95 %. Validation: 200 episodes, 5-way 1-shot, every 100 steps with 15 queries, and
    of maml every 250 with one, as in its paper; its network's accuracy with 15 is taken after the clock has stopped.
    Each process is fresh, and so is the cache of our side, which compiles and decodes all anew. PyTorch: channels_last
    for ProtoNet, torch.func under vmap for MAML.
Result: the table in docs/performance.md, and experiments/results/minutes_to_accuracy.json.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from peers.processes import PACKAGES, environment, timed
from peers.recipes import RECIPES
from tools import read_rows

from mtl_jax.run.metrics import write_json

PEERS = Path(__file__).parent / "peers"
SCRIPTS = {"ours": "own_minutes.py", "torch": "torch_minutes.py"}
READING = (*PACKAGES, "tensorflow-datasets", "array_record", "importlib_resources", "pillow")


def one(recipe: str, side: str, python: str, done: Path, more: list[str]) -> dict:
    """A run's figures; those that `done` holds, if there are."""
    if not done.exists():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MTL_JAX_CACHE"] = folder
            log = done.with_suffix(".jsonl")
            given = [recipe, f"--began={time.time()}", f"--log={log}", *more]
            write_json(done, timed(python, str(PEERS / SCRIPTS[side]), *given))
    return json.loads(done.read_text(encoding="utf-8"))


def main() -> None:
    """Run both sides of each recipe in turn, and leave result.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", default=list(RECIPES), help=", ".join(RECIPES))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/minutes_to_accuracy"))
    for name in ("--limit", "--val-every", "--episodes", "--width"):
        parser.add_argument(name, type=int, help="smaller, to try it out")
    args = parser.parse_args()
    smaller = {"limit": args.limit, "val-every": args.val_every, "episodes": args.episodes, "width": args.width}
    more = [f"--{name}={value}" for name, value in smaller.items() if value is not None]
    args.out.mkdir(parents=True, exist_ok=True)
    pythons = {"ours": sys.executable, "torch": environment(args.out.absolute() / "venv", READING)}
    for recipe in args.recipes:
        seen: dict[str, list[dict]] = {side: [] for side in SCRIPTS}
        for turn in range(args.rounds):
            for side, runs in seen.items():
                runs.append(one(recipe, side, pythons[side], args.out / f"{recipe}-{side}-{turn}.json", more))
                print(f"{recipe}, {side}: {runs[-1]}", flush=True)
        row = {"recipe": recipe, "about": RECIPES[recipe]["about"], "target": RECIPES[recipe]["target"]}
        middle = {side: sorted(runs, key=lambda run: run["spent"])[len(runs) // 2] for side, runs in seen.items()}
        pairs = [(t["seconds"], o["seconds"]) for t, o in zip(seen["torch"], seen["ours"], strict=True)]
        ratios = [theirs / ours for theirs, ours in pairs if theirs and ours]
        row |= middle | {"rounds": args.rounds, "ratio": statistics.median(ratios) if ratios else None}
        kept = [old for old in read_rows(args.out / "result.json", "rows") if old["recipe"] != recipe]
        rows = sorted([*kept, row], key=lambda each: each["recipe"])
        write_json(args.out / "result.json", {"experiment": "minutes_to_accuracy", "small": more, "rows": rows})


if __name__ == "__main__":
    main()
