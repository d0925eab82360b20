"""SqueezeNet 1.1: fifty times fewer parameters than AlexNet at its accuracy, and so 2.5 MB of ImageNet knowledge.

A *fire module* squeezes its input to few channels by 1 x 1 convolutions and expands these again by 1 x 1 and 3 x 3 ones
side by side. Version 1.1 begins with 64 small filters instead of 96 large ones and shrinks the image earlier.

References: Iandola et al. 2016 (arXiv 1602.07360); version 1.1: github.com/forresti/SqueezeNet. Parameters are named as
torchvision names them, so that its weights fit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_PX = 17
"""Smaller images do not survive the pooling."""


class Fire(nn.Module):
    """(B, I, H, W) -> (B, 2 E, H, W), through S channels."""

    def __init__(self, i: int, s: int, e: int):
        super().__init__()
        self.squeeze = nn.Conv2d(i, s, 1)
        self.expand1x1 = nn.Conv2d(s, e, 1)
        self.expand3x3 = nn.Conv2d(s, e, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], dim=1)


class SqueezeNet(nn.Module):
    """Everything before the classifier: (B, 3, H, W) -> (B, 512), the mean over the last maps."""

    width = 512

    def __init__(self):
        super().__init__()

        def pool() -> nn.Module:
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), pool(),
            Fire(64, 16, 64), Fire(128, 16, 64), pool(),
            Fire(128, 32, 128), Fire(256, 32, 128), pool(),
            Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
        )  # fmt: skip

    def maps(self, images: Tensor, at: tuple[int, ...] = (1, 4, 7, 12)) -> list[Tensor]:
        """The outputs of the layers `at`, first to last: what a perceptual loss compares."""
        found = []
        for k, layer in enumerate(self.features[: max(at) + 1]):
            images = layer(images)
            if k in at:
                found.append(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).mean(dim=(2, 3))
