"""PyTorch networks and made-up episodes of the peers; normalisation by each batch's own moments, as ours."""

import torch
from torch import nn


def conv4(image, width, ways=None):
    """Four blocks of convolution, batch moments, ReLU and max-pool on images (height, width, channels), and a head."""
    height, breadth, channels = image
    layers = []
    for inputs in (channels, width, width, width):
        norm = nn.BatchNorm2d(width, track_running_stats=False)
        layers += [nn.Conv2d(inputs, width, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2)]
    features = width * (height // 16) * (breadth // 16)
    return nn.Sequential(*layers, nn.Flatten(), *([nn.Linear(features, ways)] if ways else []))


class Scaled(nn.Conv2d):
    """A 3x3 convolution, whose frozen kernel has a learned factor for each pair of channels (MTL) if `learned`."""

    def __init__(self, inputs, outputs, learned):
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        self.scale = nn.Parameter(torch.ones(outputs, inputs, 1, 1)) if learned else None

    def forward(self, x):
        kernel = self.weight if self.scale is None else self.weight * self.scale
        return nn.functional.conv2d(x, kernel, None, padding=1)


class Residual(nn.Module):
    """Three 3x3 convolutions beside one of 1x1, then max-pool and a leaky ReLU."""

    def __init__(self, inputs, width, learned):
        super().__init__()

        def norm():
            return nn.BatchNorm2d(width, track_running_stats=False)

        layers = []
        for i in range(3):
            layers += [Scaled(width if i else inputs, width, learned), norm(), *([nn.LeakyReLU(0.1)] if i < 2 else [])]
        self.body = nn.Sequential(*layers)
        self.skip = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), norm())

    def forward(self, x):
        return nn.functional.max_pool2d(nn.functional.leaky_relu(self.body(x) + self.skip(x), 0.1), 2)


class ResNet12(nn.Module):
    """Four residual blocks, a spatial mean, and a head if there are ways; under `learned` MTL's scales and shifts."""

    def __init__(self, channels, width, ways=None, learned=False):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        pairs = zip([channels, *widths], widths, strict=False)
        self.blocks = nn.Sequential(*(Residual(inputs, outputs, learned) for inputs, outputs in pairs))
        self.head = nn.Linear(widths[-1], ways) if ways else nn.Identity()
        if learned:  # the shifts of normalisations and the scales alone
            for name, parameter in self.named_parameters():
                shift = name.endswith("bias") and name.startswith("blocks")
                parameter.requires_grad_(shift or name.endswith("scale") or name.startswith("head"))

    def forward(self, x):
        return self.head(self.blocks(x).mean((2, 3)))


def made_up(tasks, ways, each, image):
    """Images [tasks, ways * each, channels, height, width] and labels [tasks, ways * each]."""
    height, breadth, channels = image
    labels = torch.arange(ways).repeat_interleave(each).repeat(tasks, 1)
    return torch.randn(tasks, ways * each, channels, height, breadth), labels
