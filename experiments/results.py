"""docs/results.md, made of the records in experiments/results: every published figure with its interval and command.

Command: python experiments/results.py
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from papers import PAPERS
from tables import (
    accuracies,
    by_shots,
    errors,
    matrix,
    meta_transfer,
    over_backbone,
    over_networks,
    printed,
    rejection,
    score,
    scores,
)

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
OF_SPEED = ("bench_peers", "first_step", "minutes_to_accuracy", "bench_gpu")  # docs/performance.md has these
OVERLAPS = {
    "cifar_fs": "CIFAR-100 holds some images twice, in two classes: 6 of this split's test images are in its training "
    "classes as well.",
    "fc100": "CIFAR-100 holds some images twice, in two classes: 1 of this split's test images is in its training "
    "classes as well.",
}
ABOUT = """# Results

Made by `python experiments/results.py` from the records in `experiments/results/`: no figure in a table is written by
hand. "Result" is what an experiment's file says of its runs: how training went, what else was tried, what is missing.

Accuracies are percent over test episodes of classes that training never saw; ± is the 95 % interval of the mean over
episodes (1.96 standard errors) for that one network, not over networks; of several seeds it is the mean of their
networks on the same episodes, the interval that of the episodes' means over networks, and "seeds" lists each network's
transductive figure. "transductive" normalises a query by the
moments of all queries of its episode, "support" by the support set's alone; "5 checkpoints" are those of the 5 best
validations, whose probabilities are averaged; "averaged over steps" are weights of --average, "stopped early" those of
--patience. "rotated" test classes are the quarter turns of the test classes, each a class of its own. The gap is
transductive minus the paper's figure.
"""
BESIDE = """## Beside the papers

The best network for each figure that a paper prints, transductive, as the paper tests and beside it with 15 upright
queries per class. On Omniglot, methods with an inner loop are tested with as many queries as shots (upright; MAML's
authors turn the test classes, which is easier), prototypical and relation networks on turned classes too; "-" where no
record has that. Where several networks were tested, these are the best of them on the test classes: the sections below
have them all; those of mtl on FC100, over three seeds, stand there alone, as do those with augmented copies at test,
beside the same network without, which counts here. "Reached" where the interval holds the paper's figure or lies above
it. Networks are not always the paper's own: those named "max pool", and ANIL's at 20 ways, have max-pool where their
papers have strides; those named "mean", on mini-ImageNet, end in a spatial mean where theirs have a last max-pool. Most
start from a network that another method has trained, where the papers start from nothing; those of R2-D2 and MAML on
CIFAR-FS were taught by a ResNet-12 of the same classes (cifar fs rfs), which their papers have not.

| method | data | ways, shots | paper | as it tests | reached | record | 15 upright queries | record |
|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


def page() -> str:
    """The page's text."""
    records: dict[str, dict[str, Any]] = {}  # by experiment, then by name
    for path in sorted((HERE / "results").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["experiment"] not in OF_SPEED:
            records.setdefault(record["experiment"], {})[path.stem] = record
    every = {name: record for those in records.values() for name, record in those.items()}
    parts = [[ABOUT], beside_papers(every), *(chapter(name, those) for name, those in sorted(records.items()))]
    return "\n".join("\n".join(lines) + "\n" for lines in parts).replace("\n\n\n", "\n\n")


def beside_papers(records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A row for each figure of a paper that some record has: the best of them."""
    yield BESIDE
    best: dict[tuple, tuple[float, float, str, str]] = {}  # by size and test: accuracy, interval, both, record
    none = (0.0, 0.0, "-", "-")
    for name, record in records.items():
        for method, target, augment, *size, several, copies, norms in scores(record, data_of(name, record)):
            if (row := norms.get("transductive")) and not copies:
                place = (method, target, *size, augment)
                of = name.replace("_", " ") + (f", {several} checkpoints" if several > 1 else "")
                seen = (row["accuracy"], row["ci95"], score(row), of)
                best[place] = max(best.get(place, seen), seen)
    for size, (paper, half) in PAPERS.items():
        upright = (*size, 15, None)
        own = (*size, *protocol(*size))
        if own in best or upright in best:
            accuracy, ci95, figure, of = best.get(own, none)
            reached = "yes" if 100 * (accuracy + ci95) >= paper else "no"
            cells = (*size[:2], f"{size[2]}, {size[3]}", printed(paper, half), figure, reached, of)
            yield "| " + " | ".join((*cells, *best.get(upright, none)[2:])) + " |"


def protocol(method: str, data: str, ways: int, shots: int) -> tuple[int, str | None]:
    """The queries per class, and the augmentation of test classes, that the method's paper tests with."""
    if data == "omniglot" and method in ("protonet", "relation"):
        return 15, "rotations"
    return (shots, None) if data == "omniglot" and method != "matching" else (15, None)


def chapter(experiment: str, records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """One experiment: what it says of itself, then each of its records."""
    about = docstring(experiment)
    yield f"## {experiment.replace('_', ' ')}\n"
    yield f"{about['title']}\n"
    for part in ("Command", "Setting", "Leakage", "Result"):
        if part in about:
            yield f"- {part}: {about[part].replace('in docs/results.md', 'below')}"
    for name, record in records.items():
        yield ""
        yield from section(name, record, alone=len(records) == 1)


def data_of(name: str, record: Mapping[str, Any]) -> str:
    """The data set that a record's training and, unless its rows say otherwise, its tests are of."""
    return record.get("dataset") or next((d for d in ("cifar_fs", "fc100", "omniglot") if d in name), "")


def section(name: str, record: Mapping[str, Any], alone: bool) -> Iterator[str]:
    """One record: how it was made, then its figures."""
    if not alone:
        yield f"### {name.replace('_', ' ')}\n"
    if seconds := record.get("train_seconds") or record.get("seconds"):
        total = sum(seconds.values()) if isinstance(seconds, Mapping) else seconds
        steps = f", {record['steps']} steps" if "steps" in record else ""
        seeds = record.get("seeds", 1)
        # those without steps of their own are one program of all seeds, whose time that is
        each = f", each of {len(seeds)} seeds" if isinstance(seeds, list) and "steps" in record else ""
        yield f"- Training: {total / 60:.0f} minutes{steps}{each}"
    for key in ("hardware", "setting"):
        if key in record:
            yield f"- {key.capitalize()}: {record[key]}"
    data = data_of(name, record)
    if data in OVERLAPS:
        yield f"- {OVERLAPS[data]}"
    yield ""
    if "figures" in record:
        yield from by_shots(record)
    elif "frozen" in record:
        yield from over_backbone(record["frozen"])
    elif "rejection" in record:
        yield from rejection(record)
    elif "transfer" in record:
        yield from meta_transfer(record["transfer"])
    elif "cells" in record:
        yield from matrix(record["cells"])
    elif "mse" in json.dumps(record):
        yield from errors(record)
    elif "baseline" in record:
        yield from over_networks(record, data)
    else:
        yield from accuracies(record, data)


def docstring(experiment: str) -> dict[str, str]:
    """An experiment's docstring: its first line as "title", then its parts by name, each in one line."""
    text = ast.get_docstring(ast.parse((HERE / f"{experiment}.py").read_text(encoding="utf-8"))) or ""
    parts = re.findall(r"^(Papers?|Command|Setting|Leakage|Result): (.*?)(?=^\w+: |\Z)", text, re.DOTALL | re.MULTILINE)
    return {"title": text.partition("\n")[0], **{name: " ".join(about.split()) for name, about in parts}}


if __name__ == "__main__":
    main()
