"""The operations of a compiled program, counted in its text: how many run, and the bytes that they read and write."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s64": 8, "u64": 8, "f64": 8, "c64": 8}
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id")
LINE = re.compile(r"\s+(ROOT )?%?([\w.-]+) = (\(.*?\)|[\w\[\],]+)(?:{[^}]*})? ([\w-]+)\((.*)")


class _Operation(NamedTuple):
    root: bool
    name: str
    size: int  # bytes of what it gives
    kind: str
    given: list[str]
    rest: str


def count_operations(text: str) -> tuple[int, int]:
    """(Operations that one device runs in a call, a fusion counting as one; bytes that these read and write).

    A loop of unknown length counts as one turn. Of an array that an operation slices, or writes a slice of, the slice
    alone counts.

    Args:
        text: the optimised HLO of a program, as a compiled function's as_text() gives it.
    """
    parts: dict[str, dict[str, _Operation]] = {}
    entry = here = ""
    for line in text.splitlines():
        if line[:1] in ("%", "E"):
            here = line.removeprefix("ENTRY ").split()[0].lstrip("%")
            entry = here if line.startswith("ENTRY") else entry
            parts[here] = {}
        elif found := LINE.match(line):
            root, name, shape, kind, rest = found.groups()
            given = re.findall(r"%([\w.-]+)", rest.partition(")")[0])
            parts[here][name] = _Operation(bool(root), name, _size(shape), kind, given, rest)
    return _total(parts, entry)


def _total(parts: Mapping[str, Mapping[str, _Operation]], name: str) -> tuple[int, int]:
    count = traffic = 0
    for op in parts[name].values():
        if op.kind in FREE:
            continue
        if op.kind in ("while", "call", "conditional"):
            called = re.findall(r"(?:body|to_apply|computation)=%?([\w.-]+)", op.rest)
            called += re.findall(r"%([\w.-]+)", (re.findall(r"branch_computations={([^}]*)}", op.rest) or [""])[0])
            turns = re.search(r'known_trip_count":{"n":"(\d+)"', op.rest)
            inner = max(_total(parts, each) for each in called)
            repeats = int(turns[1]) if turns else 1
            count, traffic = count + repeats * inner[0], traffic + repeats * inner[1]
            continue
        count, traffic = count + 1, traffic + _traffic(parts, parts[name], op)
    return count, traffic


def _traffic(parts: Mapping[str, Any], here: Mapping[str, _Operation], op: _Operation) -> int:
    sizes = [here[each].size for each in op.given if each in here]
    called = re.search(r"calls=%?([\w.-]+)", op.rest)
    if called is None:
        if op.kind in ("slice", "dynamic-slice", "gather"):
            return 2 * op.size
        return 2 * sizes[1] if op.kind == "dynamic-update-slice" else op.size + sum(sizes)
    inside = parts[called[1]]
    written, read = op.size, 0
    for each in inside.values():
        if each.kind == "parameter":
            users = [user for user in inside.values() if each.name in user.given]
            if users and all(user.kind in ("slice", "dynamic-slice", "gather") for user in users):
                read += sum(user.size for user in users)
            elif not all(user.kind == "dynamic-update-slice" and user.given[0] == each.name for user in users):
                read += each.size
        elif each.root and each.kind == "dynamic-update-slice":
            written = inside[each.given[1]].size
    return written + read


def _size(shape: str) -> int:
    return sum(_sizes(shape))


def _sizes(shape: str) -> Iterator[int]:
    for kind, sides in re.findall(r"(\w+)\[([\d,]*)\]", shape):
        count = BYTES.get(kind, 4)
        for side in sides.split(","):
            count *= int(side) if side else 1
        yield count
