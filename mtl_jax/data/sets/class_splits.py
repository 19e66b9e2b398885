"""Which classes make which split: published lists, a user's own file, or a draw by a stated seed."""

import difflib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from mtl_jax.data.cache import Labelled
from mtl_jax.data.sets.source import ANY_SPLIT, DataSet
from mtl_jax.data.tree import SPLITS

LEAST = 10  # classes: with fewer, no split is worth having
SHARES = {"val": 0.16, "test": 0.20}  # as mini-ImageNet's 64/16/20; train has the rest

Classes = Mapping[str, tuple[str, ...]]  # split -> names


def published(name: str) -> Classes:
    """The classes of each split as a paper has them, from splits/NAME.json."""
    listed = json.loads(resources.files("mtl_jax.data").joinpath(f"splits/{name}.json").read_text(encoding="utf-8"))
    return {split: tuple(listed[split]) for split in SPLITS}


def by_seed(names: Collection[str], seed: int = 0) -> Classes:
    """Draw 64, 16 and 20 % of the classes; fewer than ten are every split's."""
    order = sorted(names)
    if len(order) < LEAST:
        return {split: tuple(order) for split in SPLITS}
    mixed = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]
    val, test = (max(1, round(share * len(order))) for share in SHARES.values())
    first = len(order) - val - test
    drawn = {"train": mixed[:first], "val": mixed[first : first + val], "test": mixed[first + val :]}
    return {split: tuple(sorted(chosen)) for split, chosen in drawn.items()}


def read_split_file(path: str | os.PathLike[str]) -> Classes:
    """A user's own split: JSON {"train": [names], "val": [...], "test": [...]}, of which some may be missing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON of this form, or a class stands in two splits.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f'no split file {file}: give JSON with {{"train": [...], "val": [...], "test": [...]}}')
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"split file {file} is no JSON ({error}): want {{split: [class names]}}") from error
    if not isinstance(listed, dict) or not any(split in listed for split in SPLITS):
        raise ValueError(f"split file {file} has none of {', '.join(SPLITS)}: want {{split: [class names]}}")
    if strange := sorted(set(listed) - {*SPLITS, "about"}):
        raise ValueError(f"split file {file} has a split {strange[0]!r}: name them {', '.join(SPLITS)}")
    for split in SPLITS:
        if not isinstance(listed.get(split, []), list):
            raise ValueError(f"split file {file}: {split} must be a list of class names")
    splits = {split: tuple(map(str, listed[split])) for split in SPLITS if split in listed}
    seen: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if name in seen:
                raise ValueError(
                    f"split file {file} has {name!r} in {seen[name]} and in {split}: a class has one split"
                )
            seen[name] = split
    return splits


def classes_of(found: DataSet, split_file: str | os.PathLike[str] | None, seed: int) -> dict[str, int]:
    """How many classes each split has, without reading more than names."""
    if split_file is not None:
        return {split: len(names) for split, names in read_split_file(split_file).items()}
    if ANY_SPLIT in found.parts:
        return {split: len(names) for split, names in by_seed(found.parts[ANY_SPLIT].names, seed).items()}
    return {split: len(part.names) for split, part in found.parts.items()}


def read_split(
    found: DataSet, name: str, split: str, split_file: str | os.PathLike[str] | None = None, seed: int = 0
) -> Labelled:
    """Read one split of a data set: its own, one listed in a file, or one drawn by the seed.

    Raises:
        FileNotFoundError: there is no such split file.
        ValueError: there is no such split, or the file names a class that the data set does not have.
    """
    if split_file is not None:
        return _read_listed(found, name, split, split_file)
    if ANY_SPLIT not in found.parts:
        if split not in found.parts:
            raise ValueError(f"{name} has no {split} split: choose one of {', '.join(found.parts)}")
        return found.parts[split].read(None)
    part = found.parts[ANY_SPLIT]
    splits = by_seed(part.names, seed)
    if len(part.names) < LEAST:
        note = f"{name} has no splits of its own: train, val and test are all the same {len(part.names)} classes"
        whole = part.read(None)
        return whole._replace(notes=(note, *whole.notes))
    sizes = ", ".join(f"{key} {len(names)}" for key, names in splits.items())
    note = f"{name} has no splits of its own: its classes are split by seed {seed} into {sizes}"
    chosen = select(part.read(frozenset(splits[split])), splits[split])
    return chosen._replace(notes=(note, *chosen.notes))


def select(data: Labelled, names: Sequence[str]) -> Labelled:
    """The classes of these names alone, numbered in the order that they have in `data`."""
    wanted = set(names)
    kept = [i for i, name in enumerate(data.names) if name in wanted]
    if len(kept) == len(data.names):
        return data
    number = np.full(len(data.names), -1, np.int32)
    number[kept] = np.arange(len(kept), dtype=np.int32)
    labels = number[data.labels]
    rows = labels >= 0
    groups = None if data.groups is None else data.groups[rows]
    return Labelled(data.x[rows], labels[rows], tuple(data.names[i] for i in kept), data.notes, groups)


def join(pieces: Sequence[Labelled]) -> Labelled:
    """Several Labelled as one; classes of the same name become one class."""
    names = tuple(dict.fromkeys(name for piece in pieces for name in piece.names))
    number = {name: i for i, name in enumerate(names)}
    labels = [np.asarray([number[n] for n in piece.names], np.int32)[piece.labels] for piece in pieces]
    notes = tuple(dict.fromkeys(note for piece in pieces for note in piece.notes))
    x, groups = np.concatenate([piece.x for piece in pieces]), None
    if any(piece.groups is not None for piece in pieces):  # numbers of different pieces are different groups
        own = [np.arange(len(p.x)) if p.groups is None else np.unique(p.groups, return_inverse=True)[1] for p in pieces]
        first = np.cumsum([0, *(len(each) for each in own)])
        groups = np.concatenate([each + at for each, at in zip(own, first[:-1], strict=True)])
    return Labelled(x, np.concatenate(labels), names, notes, groups)


def _read_listed(found: DataSet, name: str, split: str, split_file: str | os.PathLike[str]) -> Labelled:
    """The classes of a split that a file lists, whichever split of the data set's own they are in."""
    splits = read_split_file(split_file)
    if split not in splits:
        raise ValueError(f"{split_file} has no {split} split: it has {', '.join(splits)}")
    if not splits[split]:
        raise ValueError(f"{split_file} lists no class for {split}: name some")
    wanted = frozenset(splits[split])
    pieces = {
        key: part.read(wanted) for key, part in found.parts.items() if not part.names or wanted.intersection(part.names)
    }
    there = {n for key, part in found.parts.items() for n in (part.names or pieces[key].names)}
    listed = {n for names in splits.values() for n in names}
    if unknown := sorted(wanted - there):
        near = difflib.get_close_matches(unknown[0], sorted(there), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(there)[:5])}, ..."
        raise ValueError(f"{split_file} names {unknown[0]!r}, a class that {name} does not have: {hint}")
    data = select(join(list(pieces.values())), splits[split])
    unused = len(there - listed)
    note = f"{split_file} leaves {unused} of the {len(there)} classes of {name} in no split"
    return data._replace(notes=(note, *data.notes)) if unused else data
