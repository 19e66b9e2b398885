"""From PyTorch's names and layouts to the parameters of our backbones, the architecture told from the names."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mtl_jax.models.efficientnet import blocks as lite_blocks
from mtl_jax.models.layout import nest
from mtl_jax.models.resnet import DEPTHS
from mtl_jax.models.resnet import blocks as residual_blocks
from mtl_jax.models.vit import SIZES

Tensors = Mapping[str, np.ndarray]
Layers = Iterator[tuple[str, str, str]]  # our path, and the names of a convolution and of its batch normalisation
LITE_EPS, RESNET_EPS = 1e-3, 1e-5  # of the batch normalisations
LITE_WIDTHS = {(16, 320): "lite0", (21, 320): "lite1", (21, 352): "lite2"}  # blocks, and channels of the last


def tell_architecture(tensors: Tensors) -> str:
    """The architecture whose names and widths these are: lite0..2, resnet18, resnet50, vit_s16 or vit_b16.

    Raises:
        ValueError: they are of none of these.
    """
    if "_conv_stem.weight" in tensors or "conv_stem.weight" in tensors:
        depthwise = [name for name in tensors if re.search(r"(_depthwise_conv|conv_dw)\.weight$", name)]
        last = tensors.get("_conv_head.weight", tensors.get("conv_head.weight", np.zeros((0, 0))))
        known = LITE_WIDTHS.get((len(depthwise), last.shape[1]))
        if known is None:
            raise ValueError(
                f"an EfficientNet of {len(depthwise)} blocks that end in {last.shape[1]} channels is not known"
            )
        return known
    if "conv1.weight" in tensors and "layer1.0.conv1.weight" in tensors:
        return "resnet50" if "layer1.0.conv3.weight" in tensors else "resnet18"
    if "patch_embed.proj.weight" in tensors:
        width = tensors["patch_embed.proj.weight"].shape[0]
        for size, (own, _, _) in SIZES.items():
            if width == own:
                return f"vit_{size}16"
        raise ValueError(f"a vision transformer {width} wide is not known: 384 (ViT-S) and 768 (ViT-B) are")
    some = ", ".join(list(tensors)[:3])
    raise ValueError(f"it is of no known architecture (its names start {some}): EfficientNet-Lite, ResNet or ViT")


def convert(architecture: str, tensors: Tensors) -> dict[str, Any]:
    """Parameters {.., head} of an architecture, batch normalisations folded; head only where the file has one.

    Args:
        architecture: as `tell_architecture` gives it.
        tensors: PyTorch's name -> array, of torchvision, timm, DINO or efficientnet_pytorch.

    Returns:
        A dict of numpy arrays in float32, of the shapes that the tensors have.

    Raises:
        ValueError: a tensor is missing, or is of another rank, or one is there that the architecture has not.
    """
    source = _Source(architecture, tensors)
    if architecture.startswith("vit"):
        params, head = _vit(source), "head"
    else:
        layers, eps, head = _layers(architecture, tensors)
        flat = {path: {"kernel": source.kernel(conv), **source.fold(norm, eps)} for path, conv, norm in layers}
        params = nest({tuple(path.split("/")): layer for path, layer in flat.items()})
    if f"{head}.weight" in tensors:
        params["head"] = source.dense(head)
    source.finish()
    return params


class _Source:
    """Takes tensors by name, and knows at the end which were not taken."""

    def __init__(self, architecture: str, tensors: Tensors) -> None:
        self.architecture, self.tensors, self.taken = architecture, tensors, set[str]()

    def take(self, name: str, rank: int) -> np.ndarray:
        if name not in self.tensors:
            raise ValueError(f"{name} is missing, which {self.architecture} needs")
        value = self.tensors[name]
        if value.ndim != rank:
            raise ValueError(f"{name} has shape {value.shape}, where {self.architecture} has {rank} axes")
        self.taken.add(name)
        return value.astype(np.float32)

    def kernel(self, name: str) -> np.ndarray:
        """PyTorch's [out, in, h, w] as [h, w, in, out]."""
        return self.take(f"{name}.weight", 4).transpose(2, 3, 1, 0)

    def fold(self, name: str, eps: float) -> dict[str, np.ndarray]:
        """A batch normalisation in its evaluation mode: scale = weight / sqrt(var + eps), shift = bias - mean scale."""
        parts = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, var = (self.take(f"{name}.{part}", 1).astype(np.float64) for part in parts)
        scale = weight / np.sqrt(var + eps)
        return {"scale": scale.astype(np.float32), "shift": (bias - mean * scale).astype(np.float32)}

    def dense(self, name: str) -> dict[str, np.ndarray]:
        return {"kernel": self.take(f"{name}.weight", 2).T, "bias": self.take(f"{name}.bias", 1)}

    def norm(self, name: str) -> dict[str, np.ndarray]:
        return {"scale": self.take(f"{name}.weight", 1), "shift": self.take(f"{name}.bias", 1)}

    def finish(self) -> None:
        for name in self.tensors:
            if name not in self.taken and not name.endswith("num_batches_tracked"):
                raise ValueError(f"it holds {name}, which {self.architecture} has not")


def _layers(architecture: str, tensors: Tensors) -> tuple[Layers, float, str]:
    """An architecture's convolutions, their normalisations' epsilon, and the name of its head."""
    if architecture.startswith("resnet"):
        return _resnet(int(architecture.removeprefix("resnet"))), RESNET_EPS, "fc"
    if "_conv_stem.weight" in tensors:
        return _names_of_efficientnet_pytorch(architecture), LITE_EPS, "_fc"
    return _names_of_timm(architecture), LITE_EPS, "classifier"


def _resnet(depth: int) -> Layers:
    yield "stem", "conv1", "bn1"
    places = [f"layer{stage + 1}.{k}" for stage, repeats in enumerate(DEPTHS[depth]) for k in range(repeats)]
    for i, (block, place) in enumerate(zip(residual_blocks(depth), places, strict=True)):
        for k in range(len(block.sizes)):
            yield f"block{i}/conv{k}", f"{place}.conv{k + 1}", f"{place}.bn{k + 1}"
        if block.skips:
            yield f"block{i}/skip", f"{place}.downsample.0", f"{place}.downsample.1"


def _names_of_efficientnet_pytorch(architecture: str) -> Layers:
    yield "stem", "_conv_stem", "_bn0"
    for i, block in enumerate(lite_blocks(architecture)):
        for k, part in enumerate(("expand", "depthwise", "project")):
            if part != "expand" or block.expand > 1:
                yield f"block{i}/{part}", f"_blocks.{i}._{part}_conv", f"_blocks.{i}._bn{k}"
    yield "last", "_conv_head", "_bn1"


def _names_of_timm(architecture: str) -> Layers:
    yield "stem", "conv_stem", "bn1"
    stage, k = -1, 0
    for i, block in enumerate(lite_blocks(architecture)):
        stage, k = (stage, k + 1) if block.channels == block.out and block.stride == 1 and i else (stage + 1, 0)
        place = f"blocks.{stage}.{k}"
        parts = ("depthwise", "project") if block.expand == 1 else ("expand", "depthwise", "project")
        convs = ("conv_dw", "conv_pw") if block.expand == 1 else ("conv_pw", "conv_dw", "conv_pwl")
        for n, (part, conv) in enumerate(zip(parts, convs, strict=True)):
            yield f"block{i}/{part}", f"{place}.{conv}", f"{place}.bn{n + 1}"
    yield "last", "conv_head", "bn2"


def _vit(source: _Source) -> dict[str, Any]:
    blocks = SIZES[source.architecture.removeprefix("vit_")[0]][1]
    params: dict[str, Any] = {
        "patch": {"kernel": source.kernel("patch_embed.proj"), "bias": source.take("patch_embed.proj.bias", 1)},
        "token": source.take("cls_token", 3)[0, 0],
        "positions": source.take("pos_embed", 3)[0],
    }
    for i in range(blocks):
        place = f"blocks.{i}"
        params[f"block{i}"] = {
            "norm0": source.norm(f"{place}.norm1"),
            "qkv": source.dense(f"{place}.attn.qkv"),
            "project": source.dense(f"{place}.attn.proj"),
            "norm1": source.norm(f"{place}.norm2"),
            "up": source.dense(f"{place}.mlp.fc1"),
            "down": source.dense(f"{place}.mlp.fc2"),
        }
    return {**params, "norm": source.norm("norm")}
