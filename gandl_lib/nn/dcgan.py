"""Generator and discriminator of CytoGAN: convolutions of five by five, in the way of DCGAN.

    generator      z -> dense, batch norm, leaky -> three times (nearest x 2, conv 5, batch norm, leaky) -> conv 5, tanh
    trunk          conv 5 with strides 1, 2, 2, 2, leaky after each
    discriminator  noise -> trunk -> dense to the features, leaky -> dense 1

The features are the embedding. Batch norm is in the generator alone, so they are a function of one image; the noise is
added in training only.

Published at 96 x 96 pixels: widths 32, 64, 128, 256, z of 100, 100 features (Goldsborough et al. 2017). Any side that
can be halved three times will do, and any number of channels. Weights begin as DCGAN's, N(0, 0.02^2), biases at zero.

References: bioRxiv 227645; Radford et al. 2015 (arXiv 1511.06434).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
SHRINKS = 8
"""Sides of the smallest maps are those of the image divided by this."""


@dataclass(frozen=True)
class DCGANConfig:
    """Sizes of both networks."""

    crop_px: int = 96
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    """Maps after each convolution of the trunk; the generator has them the other way round."""
    latent: int = 100
    features: int = 100

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON brings a list back
        if self.crop_px < SHRINKS or self.crop_px % SHRINKS:
            raise ValueError(
                f"crop_px is halved three times, so it must be a multiple of {SHRINKS}; found {self.crop_px}."
            )
        if len(self.widths) != 4 or min(*self.widths, self.latent, self.features) < 1:
            raise ValueError(
                f"widths must be four numbers, and they, latent and features at least 1; found {self.widths}, "
                f"{self.latent} and {self.features}."
            )

    @property
    def smallest_px(self) -> int:
        return self.crop_px // SHRINKS


class Generator(nn.Module):
    """(B, latent) -> (B, C, R, R) in [-1, 1]."""

    def __init__(self, config: DCGANConfig, channels: int):
        super().__init__()
        a, b, c, d = config.widths
        s = config.smallest_px
        self.open = nn.Sequential(
            nn.Linear(config.latent, d * s * s, bias=False), nn.Unflatten(1, (d, s, s)), nn.BatchNorm2d(d)
        )
        self.grow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 5, padding=2, bias=False), nn.BatchNorm2d(o))
            for i, o in ((d, c), (c, b), (b, a))
        )
        self.to_image = nn.Conv2d(a, channels, 5, padding=2)
        _begin(self)

    def forward(self, z: Tensor) -> Tensor:
        x = F.leaky_relu_(self.open(z), SLOPE).contiguous(memory_format=torch.channels_last)  # [B, d, R/8, R/8]
        for block in self.grow:
            x = F.leaky_relu_(block(F.interpolate(x, scale_factor=2)), SLOPE)
        return self.to_image(x).tanh()


class Trunk(nn.Module):
    """(B, C, R, R) -> (B, widths[3] (R / 8)^2), laid out flat."""

    def __init__(self, config: DCGANConfig, channels: int):
        super().__init__()
        sizes = zip((channels, *config.widths), config.widths, (1, 2, 2, 2), strict=False)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 5, stride=stride, padding=2) for i, o, stride in sizes)
        self.width = config.widths[3] * config.smallest_px**2
        _begin(self)

    def forward(self, images: Tensor) -> Tensor:
        x = images.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            x = F.leaky_relu_(conv(x), SLOPE)
        return x.flatten(1)


class Discriminator(nn.Module):
    """(B, C, R, R) -> (B,): logits, or a critic's values.

    Args:
        input_noise: standard deviation of the Gaussian noise on images, in units of their range [-1, 1]; in training.
    """

    def __init__(self, config: DCGANConfig, channels: int, input_noise: float = 0.0):
        super().__init__()
        self.input_noise = input_noise
        self.trunk = Trunk(config, channels)
        self.dense, self.out = nn.Linear(self.trunk.width, config.features), nn.Linear(config.features, 1)
        _begin(self)

    def features(self, images: Tensor) -> Tensor:
        """(B, features), the layer before the answer."""
        return F.leaky_relu(self.dense(self.trunk(images)), SLOPE)

    def forward(self, images: Tensor) -> Tensor:
        if self.training and self.input_noise > 0:
            images = images + self.input_noise * torch.randn_like(images)
        return self.out(self.features(images)).squeeze(1)


def _begin(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
