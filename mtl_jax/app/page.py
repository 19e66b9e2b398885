"""One page that shows predictions as pictures: the support set, each query, and what it was found to be like."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from mtl_jax.app.pictures import Queries, Support
from mtl_jax.app.predict import Prediction, Score
from mtl_jax.data.images import open_upright
from mtl_jax.data.pixels import to_array
from mtl_jax.run.metrics import write_text

SIDE = 112  # pixels of a query's thumbnail, at most; a support picture is shown smaller
NEAREST = 3  # support pictures shown beside each query

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style
$pictures
</style>
</head>
<body>
<header><h1>$title</h1><p>$about</p></header>
<main>
$facts
$skipped
$confusion
<section><h2>Predictions, least certain first</h2>
<ol class="cards">
$cards
</ol></section>
$support
</main>
<footer>$notes</footer>
</body>
</html>
""")

STYLE = """\
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: .75rem; font: 16px/1.4 system-ui, sans-serif; color: #1b1b1b;
  background: #fafafa; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: .25rem 0; } h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
h3 { font-size: .95rem; margin: .75rem 0 .25rem; } p { margin: .25rem 0; }
header p, footer, .small { color: #555; font-size: .875rem; }
footer { margin-top: 2rem; border-top: 1px solid #ddd; padding-top: .5rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .5rem; margin: .75rem 0; }
.facts div { background: #fff; border: 1px solid #ddd; border-radius: .5rem; padding: .5rem .75rem; }
.facts dt { color: #555; font-size: .8rem; } .facts dd { margin: 0; font-size: 1.25rem; font-weight: 600; }
.facts dd small { display: block; font-size: .8rem; font-weight: 400; color: #555; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: .6rem;
  list-style: none; margin: 0; padding: 0; }
.cards li { display: flex; gap: .75rem; background: #fff; border: 1px solid #ddd; border-left: 6px solid #bbb;
  border-radius: .5rem; padding: .6rem; }
.cards li.right { border-left-color: #0072b2; } .cards li.wrong { border-left-color: #d55e00; }
.cards img { width: 112px; height: 112px; object-fit: contain; background: #eee; border-radius: .25rem; flex: none; }
.cards .text { flex: 1; min-width: 0; }
.bar { height: .4rem; background: #e4e4e4; border-radius: .2rem; margin: .2rem 0; }
.bar i { display: block; height: 100%; background: #555; border-radius: .2rem; }
.verdict { font-weight: 600; } .right .verdict { color: #005a8c; } .wrong .verdict { color: #a84300; }
.row { display: flex; flex-wrap: wrap; gap: .35rem; }
.row figure { margin: 0; width: 64px; } .row figcaption { font-size: .7rem; line-height: 1.2; color: #555; }
.s { display: block; width: 64px; height: 64px; background: #eee center / contain no-repeat; border-radius: .25rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; background: #fff; font-size: .875rem; }
th, td { border: 1px solid #ddd; padding: .3rem .5rem; text-align: right; white-space: nowrap; }
tbody th { text-align: left; min-width: 5rem; } thead th { min-width: 3.5rem; vertical-align: bottom; }
td.hit { background: #d6e9f5; font-weight: 600; } td.miss { background: #fbe3d3; } td.zero { color: #aaa; }"""


def write_page(
    path: Path,
    name: str,
    predictions: Sequence[Prediction],
    queries: Queries,
    compared: tuple[np.ndarray, np.ndarray] | None,
    known: Support | None,
    names: Sequence[str],
    facts: Sequence[tuple[str, str, str]],
    scored: Score | None,
    notes: Sequence[str],
) -> None:
    """Write the page whole or not at all: one file, without a script, that fetches nothing.

    Args:
        path: the file.
        name: of the run or backbone.
        predictions: one per query.
        queries: the images they are of.
        compared: (of the queries [n, d], of the support set [m, d]); None where there is no support set.
        known: the support set, or None.
        names: [ways] the classes.
        facts: (what, figure, the words below it) of each figure at the head of the page.
        scored: accuracy and confusion matrix, or None.
        notes: sentences for the foot of the page.
    """
    near = None if compared is None else nearest(*compared)
    order = sorted(range(len(predictions)), key=lambda i: (predictions[i].probability, str(predictions[i].file)))
    cards = [_card(predictions[i], None if near is None else near[i], known) for i in order]
    skipped = (*(known.skipped if known else ()), *queries.skipped)
    write_text(
        path,
        PAGE.substitute(
            title=escape(f"{len(predictions)} pictures named by {name}"),
            about=_about(names, known),
            style=STYLE,
            pictures="" if known is None else "\n".join(_background(i, p) for i, p in enumerate(known.paths)),
            facts=_facts(facts),
            skipped=_skipped(skipped),
            confusion=_confusion(scored) if scored else "",
            cards="\n".join(cards),
            support=_support(known) if known else "",
            notes="".join(f"<p>{escape(note)}</p>" for note in notes),
        ),
    )


def nearest(queries: np.ndarray, support: np.ndarray, most: int = NEAREST) -> np.ndarray:
    """The rows of support [m, d] that are nearest to each of queries [n, d], nearest first: [n, min(most, m)]."""
    found = [np.argsort(((q - support) ** 2).sum(-1), kind="stable")[:most] for q in queries.astype(np.float64)]
    return np.stack(found)


def thumbnail(path: Path, side: int = SIDE) -> str:
    """A picture as a data URI of at most `side` pixels, upright; small ones as PNG, others as JPEG."""
    with open_upright(path, 4 * side) as image:
        small = Image.fromarray(to_array(image, None, 3))
    little = max(small.size) <= side
    small.thumbnail((side, side))
    file = io.BytesIO()
    if little:
        small.save(file, "PNG", optimize=True)
    else:
        small.save(file, "JPEG", quality=75)
    return f"data:image/{'png' if little else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"


def _card(each: Prediction, near: np.ndarray | None, known: Support | None) -> str:
    label, second = each.label or "none of the classes", each.second
    verdict, kind = "", "open"
    if each.truth is not None:
        kind = "right" if each.truth == each.label else "wrong"
        said = "right" if kind == "right" else f"wrong: it is {each.truth or 'none of the classes'}"
        verdict = f'<p class="verdict">{escape(said)}</p>'
    share = 100 * each.probability
    told = f"{share:.0f}&nbsp;%"  # of the likeliest class, which is named second where none fits
    after = f"then {escape(second)}" if each.label else f"likeliest {escape(second)}, {told}"
    text = [
        f"<b>{escape(label)}</b> {told if each.label else ''}",
        f'<div class="bar"><i style="width:{share:.0f}%"></i></div>',
        verdict,
        f'<p class="small">{after}</p>' if second else "",
        f'<p class="small">{escape(_short(each.file))}</p>',
    ]
    if near is not None and known is not None:
        figures = "".join(_figure(int(i), known.names[known.labels[i]]) for i in near)
        text.append(f'<p class="small">nearest labelled pictures</p><div class="row">{figures}</div>')
    picture = f'<img alt="{escape(each.file.name, quote=True)}" src="{thumbnail(each.file)}">'
    return f'<li class="{kind}">{picture}<div class="text">{"".join(text)}</div></li>'


def _figure(i: int, caption: str) -> str:
    said = escape(caption, quote=True)
    return f'<figure><i class="s s{i}" role="img" aria-label="{said}"></i><figcaption>{said}</figcaption></figure>'


def _background(i: int, path: Path) -> str:
    """A support picture's rule: it is in the file once, however many queries it is near to."""
    return f".s{i} {{ background-image: url({thumbnail(path)}); }}"


def _support(known: Support) -> str:
    parts = []
    for k, name in enumerate(known.names):
        rows = np.flatnonzero(known.labels == k)
        figures = "".join(_figure(int(i), known.paths[i].name) for i in rows)
        parts.append(f'<h3>{escape(name)} ({len(rows)})</h3><div class="row">{figures}</div>')
    return f"<section><h2>Support set: the labelled pictures</h2>{''.join(parts)}</section>"


def _about(names: Sequence[str], known: Support | None) -> str:
    labelled = f", {len(known.labels)} labelled pictures" if known else ""
    return escape(f"{len(names)} classes{labelled}: {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}")


def _facts(facts: Sequence[tuple[str, str, str]]) -> str:
    cells = (
        f"<div><dt>{escape(what)}</dt><dd>{escape(figure)}<small>{escape(below)}</small></dd></div>"
        for what, figure, below in facts
    )
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _skipped(paths: Sequence[Path]) -> str:
    if not paths:
        return ""
    rows = "".join(f"<li>{escape(str(path))}</li>" for path in paths)
    what = "1 file that" if len(paths) == 1 else f"{len(paths)} files that"
    return f"<section><h2>{what} cannot be read</h2><ul>{rows}</ul></section>"


def _confusion(scored: Score) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in scored.classes)
    rows = []
    for i, (name, counts) in enumerate(zip(scored.classes, scored.confusion, strict=True)):
        kinds = ["hit" if i == j and n else "miss" if n else "zero" for j, n in enumerate(counts)]
        cells = "".join(f'<td class="{kind}">{n}</td>' for kind, n in zip(kinds, counts, strict=True))
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return (
        "<section><h2>Confusion matrix</h2><p class='small'>rows: what the pictures are; columns: what was said</p>"
        f'<div class="scroll">{table}</div></section>'
    )


def _short(path: Path) -> str:
    return "/".join(path.parts[-2:])
