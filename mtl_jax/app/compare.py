"""The command compare: several runs on the same test episodes, and what they differ by, episode by episode."""

import json
import math
import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_jax.app import frozen, options, runs
from mtl_jax.app.copies import HELP, copies_of, in_words
from mtl_jax.app.evaluation import SIZES, Measured, add_episodes, check_image_size, measure, plain, settings_of
from mtl_jax.app.options import Parser

HEAD = ("run", "learner", "norm", "accuracy (%)", "minus the first")


def compare_options(parser: Parser, learner: str | None) -> None:
    """Those of `mtl-jax compare`."""
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="folders of two runs or more")
    add_episodes(parser, "the runs', where they agree")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--markdown", action="store_true", help="the table as Markdown")
    forms.add_argument("--latex", action="store_true", help="the table as LaTeX")
    forms.add_argument("--json", action="store_true", help=options.COMMON["--json"])
    options.add_common(parser, "--no-cache")


def compare(args: Namespace) -> None:
    """Measure runs on the same test episodes."""
    if len(args.folders) < 2:
        raise ValueError("one run has nothing to be compared with: give two or more, or see mtl-jax eval")
    check_image_size(args, args.folders)
    shared = _shared(args) | ({"ensemble": args.ensemble} if args.ensemble > 1 else {})
    # refused before the first is measured
    copies = [copies_of(settings_of(folder, vars(args)), vars(args)) for folder in args.folders]
    shared |= {name: copies[0][name] for name in HELP if name in copies[0]}
    measured = [measure(folder, args) for folder in args.folders]
    first, *others = measured
    for folder, other in zip(args.folders[1:], others, strict=True):
        if other.classes != first.classes:
            raise ValueError(
                f"{args.folders[0]} and {folder} see other classes of {shared['dataset']} ({len(first.classes[1])} and "
                f"{len(other.classes[1])}): give --dataset one that both read alike"
            )
    names = _names(args.folders)
    rows = [{"run": str(f), **_facts(m)} for f, m in zip(args.folders, measured, strict=True)]
    if args.json:
        pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
        gaps = [difference(measured[j], measured[i]) for i, j in pairs]
        told = [
            {"run": rows[j]["run"], "minus": rows[i]["run"], **plain(gap)}
            for (i, j), gap in zip(pairs, gaps, strict=True)
        ]
        print(json.dumps({**shared, "runs": [plain(row) for row in rows], "differences": told}))
        return
    cells = [_cells(name, row, m, first) for name, row, m in zip(names, rows, measured, strict=True)]
    about = "{ways}-way {shots}-shot on {dataset} ({split}, {episodes} episodes, seed {seed}), 95 % intervals".format(
        **shared
    )
    if copies[0]:  # then all have some, in as many copies
        about += in_words({**copies[0], "vary": ", ".join(dict.fromkeys(each["vary"] for each in copies))})
    about += f", the {args.ensemble} best checkpoints of each together" if args.ensemble > 1 else ""
    print((_markdown if args.markdown else _latex if args.latex else _text)(cells, about))


def difference(one: Measured, other: Measured) -> dict[str, float]:
    """Mean of one's score less the other's, episode by episode, and the half-width of its 95 % interval."""
    import numpy as np

    from mtl_jax.run.metrics import ci95

    gaps = np.asarray(one.seen.per_episode, np.float64) - np.asarray(other.seen.per_episode, np.float64)
    return {"difference": float(gaps.mean()), "ci95": ci95(gaps)}


def _shared(args: Namespace) -> dict[str, Any]:
    """The task that all runs are measured on; ValueError where it is not given and the runs' own differ."""
    tasks = [runs.read_settings(folder).task for folder in args.folders if not frozen.is_backbone(str(folder))]
    tasks = tasks or [frozen.settings_of(str(args.folders[0]), None).task]  # a backbone was trained on no task
    shared: dict[str, Any] = {"split": args.split, "episodes": args.episodes, "seed": args.seed}
    for name in ("dataset", *SIZES):
        own = [getattr(task, name) for task in tasks]
        if not hasattr(args, name) and len(set(own)) > 1:
            some = " and ".join(map(str, dict.fromkeys(own)))
            raise ValueError(f"the runs were trained with {name} {some}: give --{name}, for all of them")
        shared[name] = getattr(args, name, own[0])
        setattr(args, name, shared[name])
    return shared


def _facts(measured: Measured) -> dict[str, Any]:
    wanted = ("learner", "norm", "inner_steps", "vary", "accuracy", "ci95")
    return {k: measured.result[k] for k in wanted if k in measured.result}


def _names(folders: Sequence[Path]) -> list[str]:
    """Last names of folders, or all of their paths where two are alike."""
    last = [folder.resolve().name for folder in folders]
    return last if len(set(last)) == len(last) else [str(folder) for folder in folders]


def _cells(name: str, row: Mapping[str, Any], measured: Measured, first: Measured) -> tuple[str, ...]:
    gap = difference(measured, first)
    told = "" if measured is first else _figure(gap["difference"], gap["ci95"], "+")
    return name, row["learner"], row["norm"], _figure(row["accuracy"], row["ci95"]), told


def _figure(mean: float, half: float, sign: str = "") -> str:
    return f"{100 * mean:{sign}.2f}" + (f" ± {100 * half:.2f}" if math.isfinite(half) else "")


def _text(cells: Sequence[Sequence[str]], about: str) -> str:
    rows = [HEAD, *cells]
    wide = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    lines = ("  ".join(f"{cell:<{w}}" for cell, w in zip(row, wide, strict=True)).rstrip() for row in rows)
    return "\n".join((about, *lines))


def _markdown(cells: Sequence[Sequence[str]], about: str) -> str:
    def line(row: Sequence[str], change: Callable[[str], str] = lambda cell: cell.replace("|", "\\|")) -> str:
        return f"| {' | '.join(map(change, row))} |"

    return "\n".join((line(HEAD), "|---|---|---|---|---|", *map(line, cells), "", f"{about}."))


def _latex(cells: Sequence[Sequence[str]], about: str) -> str:
    def line(row: Sequence[str]) -> str:
        return " & ".join(_escaped(cell) for cell in row) + r" \\"

    return "\n".join(
        (
            f"% {about}",
            r"\begin{tabular}{lllrr}",
            r"\hline",
            line(HEAD),
            r"\hline",
            *map(line, cells),
            r"\hline",
            r"\end{tabular}",
        )
    )


def _escaped(text: str) -> str:
    """Text for LaTeX: its signs escaped, plus-minus and minus as mathematics."""
    text = text.replace("\\", r"\textbackslash ")
    text = re.sub(r"([&%$#_{}])", r"\\\1", text).replace("~", r"\textasciitilde ").replace("^", r"\textasciicircum ")
    return re.sub(r"^([+-])(?=\d)", r"$\1$", text).replace(" ± ", r" $\pm$ ")
