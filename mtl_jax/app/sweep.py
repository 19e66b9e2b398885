"""sweep: how the cost of a meta-step grows as one setting grows."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mtl_jax.app.plot import cost_curve
from mtl_jax.run.metrics import write_text

SWEPT = ("tasks", "inner_steps", "ways", "shots", "queries", "width", "task_chunk")
COLUMNS = ("step_ms", "step_ms_min", "first_ms", "temp_mib", "flops", "bytes", "tasks_per_s")


def parse(text: str) -> tuple[str, list[int]]:
    """("tasks", [1, 2, 4]) of "tasks=1,2,4".

    Raises:
        ValueError: not of that form, or a setting that cannot be swept.
    """
    match = re.fullmatch(r"([a-z_-]+)=(\d+(?:,\d+)*)", text, re.ASCII)
    name = match[1].replace("-", "_") if match else ""
    if not match or name not in SWEPT or "0" in match[2].split(","):
        raise ValueError(f"cannot sweep {text}: want NAME=V1,V2,... with NAME one of {', '.join(SWEPT)}, V at least 1")
    return name, [int(v) for v in match[2].split(",")]


def sweep(
    name: str, values: list[int], measure: Callable[[Mapping[str, Any]], Mapping[str, Any]], out: Path
) -> list[dict[str, Any]]:
    """Measure at each value, and write sweep.csv and sweep.png in `out`.

    Args:
        name: the setting that grows.
        values: what it is set to, one after the other.
        measure: {name: value} -> figures, such as `bench` gives.
        out: a folder; made if need be.

    Returns:
        One row per value, {name: value} and its figures.
    """
    rows = [{name: value, **measure({name: value})} for value in values]
    out.mkdir(parents=True, exist_ok=True)
    lines = [",".join((name, *COLUMNS))] + [",".join(str(row[k]) for k in (name, *COLUMNS)) for row in rows]
    write_text(out / "sweep.csv", "\n".join(lines) + "\n")
    cost_curve(name, rows, out / "sweep.png")
    return rows
