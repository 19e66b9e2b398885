"""Legacy PyTorch files, read without PyTorch: their tensors, and every file that is not what it seems."""

import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from mtl_jax.models.unpickle import MAGIC, PROTOCOL, load_legacy


class Global:
    """Pickled as the name of something, called with arguments."""

    def __init__(self, module, name, *args):
        self.module, self.name, self.args = module, name, args


class Persistent(tuple):
    """Pickled as a storage's description."""


class Writer(pickle._Pickler):
    """Writes names that need not exist here, as a hostile file does."""

    def persistent_id(self, obj):
        return tuple(obj) if isinstance(obj, Persistent) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(b"c" + obj.module.encode() + b"\n" + obj.name.encode() + b"\n")
            if obj.args:
                self.save(obj.args[0])
                self.write(b"R")
            return
        super().save(obj, save_persistent_id)


def pickled(obj, protocol=2):
    out = io.BytesIO()
    Writer(out, protocol).dump(obj)
    return out.getvalue()


def tensor(shape=(2, 3), stride=(3, 1), offset=0, numel=6, kind="FloatStorage", key="7"):
    storage = Persistent(("storage", Global("torch", kind), key, "cpu", numel, None))
    args = (storage, offset, shape, stride, False, Global("collections", "OrderedDict", ()))
    return Global("torch._utils", "_rebuild_tensor_v2", args)


def legacy(state, values=None, protocol=2, keys=("7",), magic=MAGIC):
    values = np.arange(6, dtype=np.float32) if values is None else values
    parts = [magic, PROTOCOL, {"little_endian": True}, state, list(keys)]
    body = b"".join(pickled(part, protocol) for part in parts)
    return body + struct.pack("<q", len(values)) + values.tobytes()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_legacy_file_is_read_without_pytorch(tmp_path, protocol):
    path = tmp_path / "weights.pth"
    state = {"a": tensor(), "b": tensor((3, 2), (1, 3)), "c": tensor((2,), (1,), 4), "d": tensor((), ())}
    path.write_bytes(legacy(state, protocol=protocol))
    got = load_legacy(path)
    np.testing.assert_array_equal(got["a"], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(got["b"], np.arange(6.0).reshape(2, 3).T)
    np.testing.assert_array_equal(got["c"], [4, 5])
    assert got["d"] == 0


def ran(tmp_path):
    return str(tmp_path / "ran")


HOSTILE = {
    "os.system": lambda t: {"a": Global("os", "system", (f"touch {ran(t)}",))},
    "posix.system": lambda t: {"a": Global("posix", "system", (f"touch {ran(t)}",))},
    "builtins.eval": lambda t: {"a": Global("builtins", "eval", (f"open({ran(t)!r}, 'w')",))},
    "builtins.getattr": lambda t: {"a": Global("builtins", "getattr", ({}, "get"))},
    "collections.OrderedDict.fromkeys": lambda t: {"a": Global("collections", "OrderedDict.fromkeys", ((),))},
    "torch.load": lambda t: {"a": Global("torch", "load", (ran(t),))},
    "torch._utils._rebuild_tensor": lambda t: {"a": Global("torch._utils", "_rebuild_tensor", ((),))},
    "subprocess.Popen": lambda t: {"a": [{"b": (1, Global("subprocess", "Popen", (["touch", ran(t)],)))}]},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path, name, protocol):
    path = tmp_path / "weights.pth"
    path.write_bytes(legacy(HOSTILE[name](tmp_path), protocol=protocol))
    with pytest.raises(ValueError, match=f"it asks for {name}, which no file of weights needs") as error:
        load_legacy(path)
    assert "\n" not in str(error.value)
    assert not Path(ran(tmp_path)).exists()


class Reduced:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def stacked(tmp_path):
    """By STACK_GLOBAL, which takes the two words from the stack."""
    words = b"".join(b"\x8c" + bytes([len(w)]) + w for w in (b"os", b"system"))
    return b"\x80\x04" + words + b"\x93" + b"\x8c\x04true\x85R."


@pytest.mark.parametrize(
    "make",
    [
        lambda t: pickle.dumps(Reduced(ran(t))),  # as the first of the five pickles
        lambda t: pickle.dumps(Reduced(ran(t)), 0),
        stacked,
        lambda t: b"(S'touch x'\nios\nsystem\n.",  # INST, of protocol 0
        lambda t: b"\x80\x02\x82\x01.",  # EXT1
        lambda t: b"",
        lambda t: b"no pickle at all",
        lambda t: pickle.dumps({"weights": [1, 2]}),
        lambda t: b"\x80\x02\x8a\xff" + b"9" * 100,
        lambda t: b"\x80\x05\x8e" + struct.pack("<Q", 1 << 60) + b"x.",  # BINBYTES8 of an exabyte
    ],
)
def test_what_is_no_legacy_file_is_refused(tmp_path, make):
    path = tmp_path / "weights.pth"
    path.write_bytes(make(tmp_path))
    with pytest.raises(ValueError, match="no legacy PyTorch file of weights") as error:
        load_legacy(path)
    assert "\n" not in str(error.value)
    assert not Path(ran(tmp_path)).exists()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": tensor((3, 3), (3, 1))}, "does not fit its storage"),
        ({"a": tensor((2, 3), (4, 1))}, "does not fit its storage"),
        ({"a": tensor(offset=1)}, "does not fit its storage"),
        ({"a": tensor(offset=-1)}, "does not fit its storage"),
        ({"a": tensor((10**12,), (0,))}, "does not fit its storage"),
        ({"a": tensor((2, 3), (1,))}, "2 axes and 1 strides"),
        ({"a": tensor(numel=10**12)}, "larger than the file"),
        ({"a": tensor(numel=5, shape=(5,), stride=(1,))}, "not of the length"),
        ({"a": tensor(kind="ByteStorage")}, "asks for torch.ByteStorage"),
        ({"a": tensor(key="8")}, "list of storages"),
        ({"a": 3, "b": tensor()}, "more than named tensors"),
        ([tensor()], "no state dict"),
        ({3: tensor()}, "no state dict"),
    ],
)
def test_tensors_that_cannot_be_are_refused(tmp_path, state, words):
    path = tmp_path / "weights.pth"
    path.write_bytes(legacy(state))
    with pytest.raises(ValueError, match=words):
        load_legacy(path)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path, whole = tmp_path / "weights.pth", legacy({"a": tensor()})
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="no legacy PyTorch file"):
            load_legacy(path)
    path.write_bytes(b"PK\x03\x04rest")
    with pytest.raises(ValueError, match=r"zip form.*\.safetensors"):
        load_legacy(path)


def test_a_file_cannot_change_what_the_next_one_meets(tmp_path):
    path = tmp_path / "weights.pth"
    # BUILD with a pair sets attributes of what stands below it: of our stand-in for the function
    build = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N}U\x0c__defaults__(K\x01tstb."
    bad = b"".join(pickled(part) for part in (MAGIC, PROTOCOL, {"little_endian": True})) + build
    path.write_bytes(bad)
    with pytest.raises(ValueError, match="no legacy PyTorch file"):
        load_legacy(path)
    path.write_bytes(legacy({"a": tensor()}))
    assert load_legacy(path)["a"].shape == (2, 3)


def test_ordered_dicts_are_read_as_pytorch_writes_them(tmp_path):
    path = tmp_path / "weights.pth"
    assert OrderedDict.__module__ == "collections"
    path.write_bytes(legacy(OrderedDict(a=tensor())))
    assert load_legacy(path)["a"].shape == (2, 3)
