"""What predict tells of its answers: one JSON object, text, or a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.app.classifier import Classifier, run
from mtl_jax.app.held_out import Estimate
from mtl_jax.app.page import write_page
from mtl_jax.app.pictures import Queries, Support
from mtl_jax.app.predict import Prediction, Score, as_dict, table_of


class Report(NamedTuple):
    """All that is known when predict has answered.

    Attributes:
        name: of the run, the backbone or the exported folder.
        classifier: what answered.
        known: the support set; None where it is inside an exported classifier.
        queries: the images.
        found: one prediction per query.
        compared: of the queries, [n, d].
        expected: what the support set says; None where it says nothing.
        scored: where the truth is known.
        reject: (rate, least confidence), where classes may be left empty.
        choices: rows of `--choose`, as JSON has them.
    """

    name: str
    classifier: Classifier
    known: Support | None
    queries: Queries
    found: Sequence[Prediction]
    compared: Any
    expected: Estimate | None
    scored: Score | None
    reject: tuple[float, float] | None
    choices: Sequence[Mapping[str, Any]]

    @property
    def skipped(self) -> tuple[Path, ...]:
        """Files that could not be read."""
        return (*(self.known.skipped if self.known else ()), *self.queries.skipped)

    @property
    def empty(self) -> int:
        """How many pictures are given to no class."""
        return sum(not each.label for each in self.found)


def as_json(report: Report) -> dict[str, Any]:
    """The one object of --json."""
    result: dict[str, Any] = {"run": report.name, "norm": report.classifier.norm}
    result["predictions"] = [_row(each) for each in report.found]
    result["skipped"] = [str(path) for path in report.skipped]
    if report.expected:
        result["expected"] = estimate_as_dict(report.expected)
    if report.reject:
        rate, least = report.reject
        result["reject"] = {"rate": rate, "threshold": least, "empty": report.empty}
    if report.choices:
        result["choices"] = list(report.choices)
    return result | (as_dict(report.scored) if report.scored else {})


def estimate_as_dict(found: Estimate) -> dict[str, Any]:
    """An estimate as JSON has it."""
    names = ("accuracy", "images", "temperature", "ece_before", "ece_after", "nll")
    return {k: getattr(found, k) for k in names} | {"ci95": [found.low, found.high]}


def as_text(report: Report, rows: bool) -> str:
    """The predictions, if asked for, and what is known of them."""
    lines = [f"{each.file}\t{each.label}\t{each.probability:.3f}\t{each.second}" for each in report.found if rows]
    return "\n".join((*lines, *([table_of(report.scored)] if report.scored else [])))


def as_page(report: Report, path: Path) -> None:
    """Write the page."""
    expected, known, found = report.expected, report.known, report.found
    facts, notes = [], [f"Norm {report.classifier.norm}."]
    if report.scored:
        facts.append(("right", _percent(report.scored.accuracy), f"{_between(report.scored)} of {len(found)} pictures"))
    if expected:
        facts.append(("to be expected", _percent(expected.accuracy), f"{_between(expected)}, by the support set"))
        notes.append(
            f"To be expected: so many of the {expected.images} labelled pictures are right, each judged by a learner "
            "that has not seen it; in brackets the 95 % interval. Probabilities are calibrated by them (temperature "
            f"{expected.temperature:.3g}; calibration error {expected.ece_before:.3f} before, "
            f"{expected.ece_after:.3f} after)."
        )
    if report.reject:
        facts.append(
            ("none of the classes", str(report.empty), f"of {len(found)} pictures, at rate {report.reject[0]:g}")
        )
    if report.skipped:
        facts.append(("not read", str(len(report.skipped)), "named below"))
    both = None
    if known:
        notes.append(f"The nearest pictures are those whose {report.classifier.compares} of the learner are nearest.")
        both = report.compared, run(report.classifier, known.images)[1]
    names = report.classifier.names
    write_page(path, report.name, found, report.queries, both, known, names, facts, report.scored, notes)


def _row(each: Prediction) -> dict[str, Any]:
    row = {"file": str(each.file), "class": each.label, "probability": each.probability, "second": each.second}
    return row if each.truth is None else row | {"true": each.truth}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _between(of: Estimate | Score) -> str:
    return f"({100 * of.low:.0f} to {100 * of.high:.0f})"
