"""The one small encoder that four paradigms train, and what each of them puts on top of it.

    encoder     conv 3x3 to 64, halve, to 32, halve, to 16, to 8: (C, 64, 64) -> 8 x 16 x 16 = 2048 features
    decoder     the same way back; logits of pixels in [0, 1]
    classifier  2048 -> 256 -> classes
    projector   2048 -> 2048 -> 64, batch norm between; the predictor, 64 -> 2048 -> 64, is built alike

Reference: Dmitrenko et al. 2022 (arXiv 2203.04107). Not published: activations (leaky ReLU here, which
leaves none of so few maps dead) and the decoder's layers.
"""

from __future__ import annotations

from torch import Tensor, nn

SHRINKS = 4
"""Sides of the last map are those of the image divided by this."""


def _conv(i: int, o: int) -> list[nn.Module]:
    return [nn.Conv2d(i, o, 3, padding=1), nn.LeakyReLU(0.2)]


class Encoder(nn.Module):
    """(B, C, R, R) -> (B, widths[3] (R / 4)^2): the last map, laid out flat.

    Args:
        channels: C.
        widths: maps after each of the four convolutions.
        resolution: R, a multiple of 4.
    """

    def __init__(self, channels: int, widths: tuple[int, int, int, int], resolution: int):
        super().__init__()
        if resolution % SHRINKS:
            raise ValueError(f"the encoder halves the image twice; {resolution} pixels are not a multiple of 4.")
        a, b, c, d = widths
        self.side, self.width = resolution // SHRINKS, d * (resolution // SHRINKS) ** 2
        self.layers = nn.Sequential(
            *_conv(channels, a),
            nn.MaxPool2d(2),
            *_conv(a, b),
            nn.MaxPool2d(2),
            *_conv(b, c),
            *_conv(c, d),
            nn.Flatten(),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Decoder(nn.Module):
    """(B, widths[3] (R / 4)^2) -> (B, C, R, R) logits."""

    def __init__(self, channels: int, widths: tuple[int, int, int, int], resolution: int):
        super().__init__()
        a, b, c, d = widths
        self.shape = (d, resolution // SHRINKS, resolution // SHRINKS)
        self.layers = nn.Sequential(
            *_conv(d, c),
            *_conv(c, b),
            nn.Upsample(scale_factor=2),
            *_conv(b, a),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(a, channels, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features.unflatten(1, self.shape))


def classifier(features: int, hidden: int, classes: int) -> nn.Module:
    """(B, features) -> (B, classes) logits."""
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def projector(features: int, hidden: int, out: int) -> nn.Module:
    """(B, features) -> (B, out); BYOL's projector and predictor alike (Grill et al. 2020, arXiv 2006.07733)."""
    return nn.Sequential(nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))
