"""The tables of docs/performance.md, made of the records in experiments/results; the words between them stay.

Command: python experiments/performance.py
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from peers.workloads import WORKLOADS

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
NAMES = {
    "loop": "torch.func in a loop", "vmap": "torch.func under vmap", "higher": "higher", "torchopt": "TorchOpt",
    "compiled": "torch.compile", "rows": "PyTorch", "channels_last": "PyTorch, channels_last",
    "copy": "PyTorch, copies", "vmap_conv": "JAX, `vmap` over `lax.conv`",
}  # fmt: skip
BOUNDS = {"matrix": "matrix products", "memory": "memory traffic", "dispatch": "dispatch"}


def main() -> None:
    """Write the tables into the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


def page() -> str:
    """The page's text, each table made anew where a record has it."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        path = HERE / "results" / f"{name}.json"
        rows = "\n".join(table(json.loads(path.read_text(encoding="utf-8")))) if path.exists() else "Not measured yet."
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        assert marks.search(text), f"{PAGE.name} has no place for {name}"
        text = marks.sub(lambda found, rows=rows: f"{found[1]}\n{rows}\n\n{found[2]}", text)
    return text


def workloads(record: Mapping[str, Any]) -> Iterator[str]:
    """Ours, every peer as a multiple of it, and what bounds ours."""
    yield "| workload | ours | fastest peer | the others | bound | temporary memory |"
    yield "|---" * 6 + "|"
    for row in record["rows"]:
        peers = sorted(row["peers"].items(), key=lambda item: item[1]["ratio"])
        torch = [peer for peer in peers if peer[0] != "vmap_conv"] or peers
        others = [f"{NAMES[name]} {times(seen['ratio'])}" for name, seen in peers if name != torch[0][0]]
        others += [f"{NAMES[name]}: {ended(why)}" for name, why in row.get("failed", {}).items()]
        name, seen = torch[0]
        spread = "" if row["rounds"] < 2 else f" ({times(seen['least'])} to {times(seen['greatest'])})"
        about = f"{row['workload']}: {WORKLOADS[row['workload']].about}"
        cells = (about, milliseconds(row["ours_ms"]), f"{NAMES[name]} {times(seen['ratio'])}{spread}")
        yield "| " + " | ".join((*cells, ", ".join(others), bound(row), f"{row['temp_mib']:.0f} MiB")) + " |"


def bound(row: Mapping[str, Any]) -> str:
    """The largest of the shares, and the matrix rate's where that is another."""
    shares = row.get("shares") or {"matrix": row["share"]}
    name = max(shares, key=lambda each: shares[each])
    text = f"{BOUNDS[name]}, {100 * shares[name]:.0f} %"
    return text if name == "matrix" else f"{text}; {BOUNDS['matrix']} {100 * shares['matrix']:.0f} %"


def ended(why: str) -> str:
    """Why a peer has no figure."""
    return f"{why}" if why.startswith("not done") else "does not run this"


def times(ratio: float) -> str:
    """A ratio."""
    return f"{ratio:.2f}" if ratio < 20 else f"{ratio:.0f}"


def milliseconds(value: float) -> str:
    """A time."""
    return f"{value:,.0f} ms" if value >= 20 else f"{value:.2f} ms"


def first_steps(record: Mapping[str, Any]) -> Iterator[str]:
    """Seconds from process start to the end of the first step."""
    yield "| learner | cache | first step | importing | tracing, lowering | compiling or reading | second train() |"
    yield "|---" * 7 + "|"
    for row in record["rows"]:
        spread = f"{row['seconds']:.1f} s ({row['least']:.1f} to {row['greatest']:.1f})"
        parts = (f"{row[part]:.1f} s" for part in ("importing", "tracing", "compiling", "second_train"))
        yield f"| {row['about']} | {row['cache']} | {spread} | {' | '.join(parts)} |"


def accuracies(record: Mapping[str, Any]) -> Iterator[str]:
    """Minutes from process start to a validation accuracy, ours and PyTorch's."""
    yield "| recipe | to | ours | PyTorch | ratio |\n" + "|---" * 5 + "|"
    for row in record["rows"]:
        cells = (clock(row["ours"]), clock(row["torch"]))
        ratio = "-" if None in (row["ours"]["seconds"], row["torch"]["seconds"]) else f"{row['ratio']:.2f}"
        yield f"| {row['about']} | {100 * row['target']:.0f} % | {' | '.join(cells)} | {ratio} |"


def clock(seen: Mapping[str, Any]) -> str:
    """Minutes and steps of one side, or how far it came."""
    if seen["seconds"] is None:
        return f"not in {seen['steps']:,} steps (best {100 * seen['best']:.1f} %)"
    wide = f" ({100 * seen['with_15_queries']:.1f} % with 15 queries)" if "with_15_queries" in seen else ""
    return f"{seen['seconds'] / 60:.1f} min, {seen['steps']:,} steps{wide}"


def on_accelerator(record: Mapping[str, Any]) -> Iterator[str]:
    """Workloads on an accelerator beside vmap over lax.conv, and how they scale over tasks."""
    yield f"On {record['device']}.\n"
    yield "| workload | ours | JAX, `vmap` over `lax.conv` | of the matrix rate | memory |\n" + "|---" * 5 + "|"
    for row in record["rows"]:
        peer = "-" if row.get("ratio") is None else times(row["ratio"])
        about = f"{row['workload']}: {WORKLOADS[row['workload']].about}"
        if "failed" in row:
            yield f"| {about} | did not run | - | - | - |"
            continue
        share, memory = f"{100 * row['share']:.0f} %", f"{row['temp_mib']:.0f} MiB"
        yield f"| {about} | {milliseconds(row['step_ms'])} | {peer} | {share} | {memory} |"
    yield "\n| tasks | " + " | ".join(str(row["tasks"]) for row in record["scaling"]) + " |"
    yield "|---" * (1 + len(record["scaling"])) + "|"
    yield "| tasks per second, A | " + " | ".join(f"{row['tasks_per_s']:.0f}" for row in record["scaling"]) + " |"


TABLES: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "bench_peers": workloads,
    "first_step": first_steps,
    "minutes_to_accuracy": accuracies,
    "bench_gpu": on_accelerator,
}


if __name__ == "__main__":
    main()
