"""Reading a legacy PyTorch file of weights without PyTorch, and without running anything that it names."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
DTYPES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
}


class _Storage:
    """A flat run of numbers, whose values stand at the end of the file."""

    __slots__ = ("dtype", "numel", "values")

    def __init__(self, dtype: np.dtype, numel: int) -> None:
        self.dtype, self.numel = dtype, numel
        self.values = np.zeros(0, dtype)


class _Tensor:
    """Where a tensor lies in its storage."""

    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    def array(self) -> np.ndarray:
        """Its values; ValueError where they would lie outside the storage or need more room than it has."""
        storage, shape, stride = self.storage, self.shape, self.stride
        last = self.offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        size = int(np.prod(shape, dtype=object))
        if min((self.offset, *shape, *stride)) < 0 or size > storage.numel or (size and last >= storage.numel):
            raise ValueError(f"a tensor of shape {shape} does not fit its storage of {storage.numel}")
        if not size:
            return np.zeros(shape, storage.dtype)
        steps = [s * storage.dtype.itemsize for s in stride]
        return np.lib.stride_tricks.as_strided(storage.values[self.offset :], shape, steps, writeable=False).copy()


class _Reader(pickle.Unpickler):
    """An unpickler that knows five names, each by a harmless object of our own, and refuses all others."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        super().__init__(file)
        self.room, self.storages = room, dict[str, _Storage]()

        # Made anew for each file: a pickle can set attributes of what it is given, and must not reach the next file.
        class State(dict):
            def __setstate__(self, state: Any) -> None:
                """Nothing: a state dict's version numbers are not wanted."""

        def rebuild(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
            if not isinstance(storage, _Storage) or not _whole((offset,)) or not (_whole(shape) and _whole(stride)):
                raise pickle.UnpicklingError("a tensor is not made of a storage, an offset, a shape and strides")
            if len(shape) != len(stride):
                raise pickle.UnpicklingError(f"a tensor has {len(shape)} axes and {len(stride)} strides")
            return _Tensor(storage, offset, shape, stride)

        self.known: dict[tuple[str, str], type | Callable | str] = {
            ("collections", "OrderedDict"): State,
            ("torch._utils", "_rebuild_tensor_v2"): rebuild,
            **{("torch", name): name for name in DTYPES},
        }

    def find_class(self, module: str, name: str) -> Any:
        """One of the five, by its whole name."""
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no file of weights needs")
        return self.known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that ("storage", type, key, device, numel, view) names."""
        fits = isinstance(pid, tuple) and len(pid) == 6 and pid[0] == "storage" and isinstance(pid[2], str)
        if not fits or not isinstance(pid[1], str) or pid[1] not in DTYPES or not _whole((pid[4],)) or pid[5]:
            raise pickle.UnpicklingError("a storage is not described as PyTorch does")
        if not 0 <= pid[4] * DTYPES[pid[1]].itemsize <= self.room:
            raise pickle.UnpicklingError(f"a storage of {pid[4]} numbers is larger than the file")
        return self.storages.setdefault(pid[2], _Storage(DTYPES[pid[1]], pid[4]))


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, tuple) and all(type(n) is int for n in numbers)


def load_legacy(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict that `torch.save` wrote in its form before PyTorch 1.6.

    The file is five pickles (magic number, protocol, system, state dict, keys of storages), then for each key its
    length in 8 bytes and its numbers. Of all names that a pickle can ask for, five are known, each a stand-in of our
    own: OrderedDict, _rebuild_tensor_v2 and the storages of float32, float16 and int64. Nothing else is imported.

    Args:
        path: the file.

    Returns:
        Name -> array, of the shapes and dtypes of the file.

    Raises:
        ValueError: it is not such a file, is truncated, or asks for another name: one line that says which.
        OSError: it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            raise ValueError(f"{path} is of PyTorch's zip form, which is not read: save its state dict as .safetensors")
        file.seek(0)
        try:
            return _read(file, path.stat().st_size)
        except OSError:
            raise
        except Exception as error:  # a broken pickle raises errors of every kind
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{path} is no legacy PyTorch file of weights: {reason}") from None


def _read(file: BinaryIO, room: int) -> dict[str, np.ndarray]:
    def part() -> Any:
        return reader(file).load()

    def reader(file: BinaryIO) -> _Reader:
        return _Reader(file, room)

    if part() != MAGIC or part() != PROTOCOL:
        raise ValueError("it does not start with PyTorch's magic number")
    system = part()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it was not written on a little-endian machine")
    main = reader(file)
    state, keys = main.load(), part()
    if not isinstance(state, dict) or not all(isinstance(k, str) for k in state):
        raise ValueError("it holds no state dict of named tensors")
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(main.storages):
        raise ValueError("its list of storages is not that of its tensors")
    for key in keys:
        storage = main.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.numel:
            raise ValueError("a storage is truncated, or not of the length that its tensors say")
        raw = file.read(storage.numel * storage.dtype.itemsize)
        if len(raw) != storage.numel * storage.dtype.itemsize:
            raise ValueError("it is truncated")
        storage.values = np.frombuffer(raw, storage.dtype)
    if not all(isinstance(tensor, _Tensor) for tensor in state.values()):
        raise ValueError("it holds more than named tensors")
    return {name: tensor.array() for name, tensor in state.items()}
