"""docs/results.md, made of the records in experiments/results: every published figure with its interval and command.

Command: python experiments/results.py
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from papers import PAPERS

from mtl_jax.run.metrics import ci95_of_seeds

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
OF_SPEED = ("bench_peers", "first_step", "minutes_to_accuracy", "bench_gpu")  # docs/performance.md has these
OVERLAPS = {
    "cifar_fs": "CIFAR-100 holds some images twice, in two classes: 6 of this split's test images are in its training "
    "classes as well.",
    "fc100": "CIFAR-100 holds some images twice, in two classes: 1 of this split's test images is in its training "
    "classes as well.",
}
OPTIONS = {"average": "averaged over steps", "patience": "stopped early"}
HEAD = "| method | data | ways, shots | transductive | support | queries | episodes | seeds | paper | gap | commit |"
ABOUT = """# Results

Made by `python experiments/results.py` from the records in `experiments/results/`: no figure in a table is written by
hand. "Result" is what an experiment's file says of its runs: how training went, what else was tried, what is missing.

Accuracies are percent over test episodes of classes that training never saw; ± is the 95 % interval of the mean over
episodes (1.96 standard errors) for that one network, not over networks. "transductive" normalises a query by the
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
have them all; those of mtl on FC100, over three seeds, stand there alone. "Reached" where the interval holds the
paper's figure or lies above it.

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
        for method, target, augment, ways, shots, queries, several, norms in scores(record, data_of(name, record)):
            if row := norms.get("transductive"):
                place = (method, target, ways, shots, queries, augment)
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
        yield f"- Training: {total / 60:.0f} minutes" + (f", {record['steps']} steps" if "steps" in record else "")
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


def each_method(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A record's methods; of one network's, the one."""
    return record.get("methods") or [{"method": record.get("learner", record["experiment"].split("_")[-1]), **record}]


def scores(record: Mapping[str, Any], data: str) -> Iterator[tuple]:
    """(method, data set, augmentation, ways, shots, queries, checkpoints, rows by norm) of a record's test rows."""
    for each in each_method(record):
        tests: dict[tuple, dict[str, Any]] = {}
        for row in each.get("tests") or each.get("test") or ():
            if "norm" in row:
                target = row.get("dataset") or row.get("target") or data
                size = (row.get("ways", 5), row.get("shots", 1), row.get("queries", 15))
                place = (target, row.get("augment"), *size, row.get("ensemble", 1))
                tests.setdefault(place, {})[row["norm"]] = row
        yield from ((each["method"], *place, norms) for place, norms in tests.items())


def accuracies(record: Mapping[str, Any], data: str) -> Iterator[str]:
    """Rows of one network's, or of many methods', scores under both norms."""
    yield HEAD
    yield "|---" * 11 + "|"
    for name, target, augment, ways, shots, queries, several, norms in scores(record, data):
        paper, half = PAPERS.get((name, target, ways, shots), (None, None))
        best = norms.get("transductive")
        gap = "-" if paper is None or best is None else f"{100 * best['accuracy'] - paper:+.2f}"
        episodes = next(iter(norms.values())).get("episodes", record.get("episodes", "-"))
        method = name + "".join(f", {words}" for key, words in OPTIONS.items() if key in record)
        method += f", {several} checkpoints" if several > 1 else ""
        target += ", rotated" if augment == "rotations" else ""
        cells = (method, target, f"{ways}, {shots}", score(best), score(norms.get("support")), queries)
        cells += (episodes, record.get("seeds", 1), printed(paper, half), gap, record.get("commit") or "-")
        yield "| " + " | ".join(map(str, cells)) + " |"
    for each in each_method(record):
        if points := each.get("curve"):
            few = [points[round(k * (len(points) - 1) / 9)] for k in range(10)] if len(points) > 10 else points
            line = ", ".join(f"{100 * accuracy:.1f} ({step:,})" for step, accuracy in few)
            yield f"\nLearning curve of {each['method']}, validation percent (after steps): {line}."


def over_networks(record: Mapping[str, Any], data: str) -> Iterator[str]:
    """Means over several networks scored on the same episodes, and their paired gaps."""
    pooled = not any("spread" in row for row in record.values() if isinstance(row, Mapping))
    if pooled:
        yield "This record keeps the networks' means alone, not each episode's score. Its networks share their"
        yield "episodes, so that ± here is the 95 % interval over seeds, by Student's t, on these 1,000 episodes.\n"
    shots = record.get("shots", 1)
    yield f"| | 5-way {shots}-shot | networks | paper |\n|---|---|---|---|"
    for name, row in record.items():
        if isinstance(row, Mapping):
            own = f" ± {100 * (ci95_of_seeds(row['seeds']) if pooled else row['ci95']):.2f}"
            each = ", ".join(f"{100 * seed:.2f}" for seed in row["seeds"])
            paper, half = PAPERS.get((name, data, 5, shots), (None, None))
            yield f"| {name} | {100 * row['mean']:.2f}{own} | {each} | {printed(paper, half)} |"


def errors(record: Mapping[str, Any]) -> Iterator[str]:
    """Mean squared errors of regression after some inner steps."""
    rows = [
        {"method": each["method"], **test}
        for each in record.get("methods", [record | {"method": ""}])
        for test in each["test"]
    ]
    places = list(dict.fromkeys((row.get("shots", record.get("shots")), row["steps"]) for row in rows))
    yield "Mean squared error, ± 95 % over test tasks.\n"
    yield "| method | " + " | ".join(f"{shots} shots, {steps} steps" for shots, steps in places) + " |"
    yield "|---" * (1 + len(places)) + "|"
    for method in dict.fromkeys(row["method"] for row in rows):
        seen = {(r.get("shots", record.get("shots")), r["steps"]): r for r in rows if r["method"] == method}
        cells = (
            "diverges" if seen[p]["mse"] is None else f"{seen[p]['mse']:.3f} ± {seen[p]['ci95']:.3f}" for p in places
        )
        yield f"| {method} | {' | '.join(cells)} |"


def by_shots(record: Mapping[str, Any]) -> Iterator[str]:
    """Data and methods down, shots across, where every query is judged by itself."""
    rows, shots = record["figures"], sorted({row["shots"] for row in record["figures"]})
    yield f"Percent over {record['episodes']} episodes of {record['queries']} queries per class, each by itself.\n"
    yield "| data | method | " + " | ".join(f"5-way {k}-shot" for k in shots) + " |\n" + "|---" * (2 + len(shots)) + "|"
    for data, method in dict.fromkeys((row["data"], row["method"]) for row in rows):
        seen = {row["shots"]: row for row in rows if (row["data"], row["method"]) == (data, method)}
        yield f"| {data} | {method} | " + " | ".join(score(seen.get(k)) for k in shots) + " |"


def matrix(cells: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Sources down, targets across."""
    seen = {(f"{c['source']}, {c['method']}", f"{c['target']}, {c['shots']} shots"): c for c in cells}
    columns = list(dict.fromkeys(column for _, column in seen))
    yield "| trained on, by | " + " | ".join(columns) + " |\n" + "|---" * (1 + len(columns)) + "|"
    for row in dict.fromkeys(row for row, _ in seen):
        yield f"| {row} | " + " | ".join(score(seen.get((row, column))) for column in columns) + " |"


def over_backbone(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Scores over a frozen backbone, each with its paired gap to the first method and what the backbone has seen."""
    yield "Norm frozen. Gaps are to the first method of the same task, paired episode by episode.\n"
    yield "| target | ways, shots | method | transductive | accuracy | gap | episodes | leakage |"
    yield "|---" * 8 + "|"
    for row in rows:
        gap = f"{100 * row['gap']:+.2f} ± {100 * row['gap_ci95']:.2f}" if row["gap_ci95"] else "-"
        cells = (row["target"], f"{row['ways']}, {row['shots']}", row["method"], "yes" if row["transductive"] else "no")
        yield "| " + " | ".join(map(str, (*cells, score(row), gap, row["episodes"], row["leakage"]))) + " |"


def rejection(record: Mapping[str, Any]) -> Iterator[str]:
    """How well strange examples are told from known ones, and how many of each are left without a class."""
    yield f"{record['tasks']} tasks, ± 95 % over them; rejected at rate {record['rate']}.\n"
    yield "| data | known classes, examples | AUROC by logit | by probability | known rejected | others rejected |"
    yield "|---" * 6 + "|"
    for row in record["rejection"]:
        cells = (f"{row[k]:.3f} ± {row[f'{k}_ci95']:.3f}" for k in ("auroc", "auroc_by_probability"))
        rejected = (f"{row[k]:.3f}" for k in ("known_rejected", "others_rejected"))
        yield f"| {row['data']} | {row['ways']}, {row['shots']} | {' | '.join((*cells, *rejected))} |"


def meta_transfer(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Scores over a split backbone, with paired gaps to SimpleShot and, of mtl, to the head that it adapts alone."""
    yield "Norm frozen. Gaps are paired episode by episode, over the episodes that both methods have.\n"
    yield "| target | leakage | ways, shots | method | accuracy | over simpleshot | over mtl none | episodes |"
    yield "|---" * 8 + "|"
    for row in rows:
        gaps = (
            f"{100 * row[name]:+.2f} ± {100 * row[name + '_ci95']:.2f}" if name in row else "-"
            for name in ("over_simpleshot", "over_baseline")
        )
        cells = (row["target"], row["leakage"], f"5, {row['shots']}", row["method"], score(row), *gaps, row["episodes"])
        yield "| " + " | ".join(map(str, cells)) + " |"


def printed(paper: float | None, half: float | None) -> str:
    """A paper's figure with its interval, each if there is one."""
    return "-" if paper is None else f"{paper}" + ("" if half is None else f" ± {half}")


def score(row: Mapping[str, Any] | None) -> str:
    """An accuracy in percent with its interval."""
    return "-" if row is None else f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}"


def docstring(experiment: str) -> dict[str, str]:
    """An experiment's docstring: its first line as "title", then its parts by name, each in one line."""
    text = ast.get_docstring(ast.parse((HERE / f"{experiment}.py").read_text(encoding="utf-8"))) or ""
    parts = re.findall(r"^(Papers?|Command|Setting|Leakage|Result): (.*?)(?=^\w+: |\Z)", text, re.DOTALL | re.MULTILINE)
    return {"title": text.partition("\n")[0], **{name: " ".join(about.split()) for name, about in parts}}


if __name__ == "__main__":
    main()
