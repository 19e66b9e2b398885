"""The tables of docs/results.md: a record's rows of figures, in Markdown."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from papers import PAPERS

from mtl_jax.run.metrics import ci95_of_seeds

OPTIONS = {"average": "averaged over steps", "patience": "stopped early"}
HEAD = "| method | data | ways, shots | transductive | support | queries | episodes | seeds | paper | gap | commit |"


def each_method(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A record's methods; of one network's, the one."""
    return record.get("methods") or [{"method": record.get("learner", record["experiment"].split("_")[-1]), **record}]


def scores(record: Mapping[str, Any], data: str) -> Iterator[tuple]:
    """(method, data, augmentation, ways, shots, queries, checkpoints, copies, rows by norm) of a record's test rows."""
    for each in each_method(record):
        tests: dict[tuple, dict[str, Any]] = {}
        for row in each.get("tests") or each.get("test") or ():
            if "norm" in row:
                target = row.get("dataset") or row.get("target") or data
                size = (row.get("ways", 5), row.get("shots", 1), row.get("queries", 15))
                copies = (row["support_copies"], row["query_copies"], row["vary"]) if "vary" in row else ()
                place = (target, row.get("augment"), *size, row.get("ensemble", 1), copies)
                tests.setdefault(place, {})[row["norm"]] = row
        yield from ((each["method"], *place, norms) for place, norms in tests.items())


def accuracies(record: Mapping[str, Any], data: str) -> Iterator[str]:
    """Rows of one network's, or of many methods', scores under both norms."""
    yield HEAD
    yield "|---" * 11 + "|"
    for name, target, augment, ways, shots, queries, several, copies, norms in scores(record, data):
        paper, half = PAPERS.get((name, target, ways, shots), (None, None))
        best = norms.get("transductive")
        gap = "-" if paper is None or best is None else f"{100 * best['accuracy'] - paper:+.2f}"
        episodes = next(iter(norms.values())).get("episodes", record.get("episodes", "-"))
        method = name + options(record)
        method += f", {several} checkpoints" if several > 1 else ""
        method += ", {} support and {} query copies by {}".format(*copies) if copies else ""
        target += ", rotated" if augment == "rotations" else ""
        cells = (method, target, f"{ways}, {shots}", score(best), score(norms.get("support")), queries)
        cells += (episodes, each_seed(best or {}), printed(paper, half), gap, record.get("commit") or "-")
        yield "| " + " | ".join(map(str, cells)) + " |"
    if gains := [row for *_, norms in scores(record, data) for row in norms.values() if "gain" in row]:
        yield f"\nGained by copies, paired episode by episode: {'; '.join(map(gain, gains))}."
    for each in each_method(record):
        if points := each.get("curve"):
            few = [points[round(k * (len(points) - 1) / 9)] for k in range(10)] if len(points) > 10 else points
            line = ", ".join(f"{100 * accuracy:.1f} ({step:,})" for step, accuracy in few)
            yield f"\nLearning curve of {each['method']}, validation percent (after steps): {line}."


def gain(row: Mapping[str, Any]) -> str:
    """What copies are worth in one row, in points."""
    place = f"{row['ways']}-way {row['shots']}-shot, {row['queries']} queries, {row['norm']}"
    return f"{place} {100 * row['gain']:+.2f} ± {100 * row['gain_ci95']:.2f}"


def options(record: Mapping[str, Any]) -> str:
    """What was done to a record's weights, behind its method's name."""
    return "".join(f", {words}" for key, words in OPTIONS.items() if key in record)


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
            paper, half = PAPERS.get((name, data, 5, shots), (None, None))
            yield f"| {name} | {100 * row['mean']:.2f}{own} | {percents(row['seeds'])} | {printed(paper, half)} |"


def errors(record: Mapping[str, Any]) -> Iterator[str]:
    """Mean squared errors of regression after some inner steps."""
    rows = [
        {"method": each["method"], **test}
        for each in record.get("methods", [record | {"method": ""}])
        for test in each["test"]
    ]
    places = list(dict.fromkeys((row.get("shots", record.get("shots")), row["steps"]) for row in rows))
    yield "Mean squared error, ± 95 % over test tasks; in brackets each seed's, where there are several.\n"
    yield "| method | " + " | ".join(f"{shots} shots, {steps} steps" for shots, steps in places) + " |"
    yield "|---" * (1 + len(places)) + "|"
    for method in dict.fromkeys(row["method"] for row in rows):
        seen = {(r.get("shots", record.get("shots")), r["steps"]): r for r in rows if r["method"] == method}
        yield f"| {method}{options(record)} | {' | '.join(error(seen[p]) for p in places)} |"


def error(row: Mapping[str, Any]) -> str:
    """A mean squared error with its interval, and each network's where there are several."""
    seeds = ["diverges" if seed is None else f"{seed:.3f}" for seed in row.get("seeds", ())]
    figure = "diverges" if row["mse"] is None else f"{row['mse']:.3f} ± {row['ci95']:.3f}"
    return f"{figure} ({', '.join(seeds)})" if len(seeds) > 1 else figure


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


def each_seed(row: Mapping[str, Any]) -> str:
    """How many networks a row is the mean of, and the figure of each where there are several."""
    seeds = row.get("seeds", ())
    return f"{len(seeds)}: {percents(seeds)}" if seeds else "1"


def percents(fractions: Iterable[float]) -> str:
    """Each in percent."""
    return ", ".join(f"{100 * fraction:.2f}" for fraction in fractions)


def score(row: Mapping[str, Any] | None) -> str:
    """An accuracy in percent with its interval."""
    return "-" if row is None else f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}"
