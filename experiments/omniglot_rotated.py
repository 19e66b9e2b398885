"""Omniglot's test classes with their quarter turns as classes too, as ProtoNet's and MAML's papers test.

Papers: Snell, Swersky and Zemel 2017, arXiv 1703.05175, whose code tests on 1,692 classes, four turns of each test
    character, and trains on the validation classes as well in the end; Finn et al. 2017, arXiv 1703.03400, whose code
    draws a turn for each class, at test too.
Command: TFDS_DATA_DIR=... python experiments/omniglot_rotated.py [RUN ...] [--ways 5 20] [--out runs/omniglot_rotated]
    RUN: folders of runs or names of shipped weights; protonet-omniglot and maml-omniglot unless given.
Setting: Vinyals split, the networks as they are, trained on the training classes alone; 1,000 test episodes of 15
    queries, 5-way and 20-way; of networks with a head, in as many ways as they were trained, also as many queries as
    shots. The same networks on upright test classes stand under omniglot protonet and omniglot maml.
Result: in docs/results.md. On its paper's test classes protonet-omniglot is above the paper's figures at 5 ways and 1
    shot and at 20 ways, and within the interval at 5 ways and 5 shots (99.67 ± 0.07 against 99.7 %), trained without
    the validation classes; turned test classes are worth 1.1 points at 20 ways and 1 shot. maml-omniglot has its
    paper's at 1 shot, and half a point less at 5. The relation network of omniglot_from_protonet (5 ways) is 1.06 and
    0.25 points below its paper's.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from tools import commit, score_run

from mtl_jax.app.methods import find_method
from mtl_jax.app.runs import read_settings
from mtl_jax.run.backend import configure_cpu
from mtl_jax.run.metrics import write_json


def measure(run: str, features_in: Sequence[int]) -> dict:
    """One network's rows: without a head in each of those ways, with one in its own."""
    settings, turned = read_settings(run), {"augment": "rotations"}
    name, own = settings.learner, settings.task.ways
    head = find_method(name).network == "head"
    rows = [row for ways in ((own,) if head else features_in) for row in score_run(run, ways=ways, **turned)]
    for k in (1, 5) if head else ():
        rows += score_run(run, ways=own, shots=(k,), queries=k, norms=("transductive",), **turned)
    return {"method": name, "run": Path(run).name, "tests": rows}


def main() -> None:
    """Test each network, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", default=["protonet-omniglot", "maml-omniglot"])
    parser.add_argument("--ways", type=int, nargs="+", default=[5, 20], help="of networks without a head")
    parser.add_argument("--out", type=Path, default=Path("runs/omniglot_rotated"))
    args = parser.parse_args()
    configure_cpu()
    record = {"experiment": "omniglot_rotated", "commit": commit()}
    write_json(args.out / "result.json", record | {"methods": [measure(run, args.ways) for run in args.runs]})


if __name__ == "__main__":
    main()
