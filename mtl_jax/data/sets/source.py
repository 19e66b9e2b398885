"""What a data set's module takes and gives: Request in, DataSet of Parts out; and the facts about a named one."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from mtl_jax.data.cache import Labelled

ANY_SPLIT = ""  # the one part of a data set that has no splits of its own


class DatasetInfo(NamedTuple):
    """Facts about a data set.

    Attributes:
        image_shape: the shape of one input as loaded without `image_size`: (height, width, channels) for images.
        classes: how many classes each split has; its keys are the splits there are.
        augment: the augmentation to train with, as `sample_episode` takes it.
        source: "tfds-name:version", or "" where it is not read through TFDS.
        about: one line for people.
        size: how many inputs there are and of what, one line; "" where only reading would tell.
        licence: the terms, as its authors state them.
        get: how to get it, one line.
    """

    image_shape: tuple[int, ...]
    classes: Mapping[str, int]
    augment: str
    source: str
    about: str
    size: str = ""
    licence: str = "your own"
    get: str = ""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""
        return tuple(self.classes)


class Request(NamedTuple):
    """What was asked of a data set.

    Attributes:
        name: the name as it was given: "omniglot", "csv:/path/table.csv?label=kind".
        where: what stands behind "kind:", without options; the name itself for a named set.
        options: what stands behind "?" in the name.
        image_size: height and width in pixels, or None for the natural size.
        channels: 1, 3, or None for the images' own.
        data_dir: where TFDS and prepared sets lie; None for the default.
        cache_dir: where arrays are kept; None for the default.
    """

    name: str
    where: str
    options: Mapping[str, str] = {}
    image_size: int | None = None
    channels: int | None = None
    data_dir: str | os.PathLike[str] | None = None
    cache_dir: str | os.PathLike[str] | None = None


class Part(NamedTuple):
    """Some of a data set's inputs, not read yet.

    Attributes:
        names: the classes that it has, or () where only reading tells.
        read: (classes wanted, or None for all) -> Labelled; it may give more classes than were wanted.
    """

    names: tuple[str, ...]
    read: Callable[[frozenset[str] | None], Labelled]


class DataSet(NamedTuple):
    """A data set, found but not read.

    Attributes:
        parts: split -> Part; {ANY_SPLIT: Part} where the data set has no splits of its own.
        input_shape: the shape of one input under this request.
        images: whether inputs are images, so that a size and a number of channels can be asked for.
        augment: the augmentation to train with.
        notes: what a person should be told, one line each.
    """

    parts: Mapping[str, Part]
    input_shape: tuple[int, ...]
    images: bool = True
    augment: str = "none"
    notes: tuple[str, ...] = ()


class Named(Protocol):
    """A module of data sets with names of their own."""

    @property
    def FACTS(self) -> Mapping[str, DatasetInfo]:
        """The data sets by name."""

    def open_set(self, request: Request) -> DataSet:
        """Find the data set."""

    def available(self, name: str, data_dir: str | os.PathLike[str] | None) -> bool:
        """Whether `open_set` would find it now, with nothing to download."""

    def prepare(
        self, name: str, data_dir: str | os.PathLike[str] | None, source: str | os.PathLike[str] | None
    ) -> Path:
        """Make it ready to load; return the folder that holds it."""


class Format(Protocol):
    """A module of one kind of file or folder, named "kind:where"."""

    @property
    def ABOUT(self) -> str:
        """One line for people: the form of the name, and what the files must be."""

    @property
    def OPTIONS(self) -> Mapping[str, str]:
        """The options that may stand behind "?" in a name, and what each is."""

    def open_set(self, request: Request) -> DataSet:
        """Find the data set."""
