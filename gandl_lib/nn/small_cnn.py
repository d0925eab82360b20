"""A small convolutional classifier: what labels can teach in minutes on a CPU, a bar for unsupervised features."""

from __future__ import annotations

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Four convolutions, the mean over the image, one linear layer.

    Every layer but the third halves the resolution. The mean over positions makes the answer a vote of all cells of a
    field, and lets any image size through.

    Args:
        channels: C of the images.
        classes: number of scores.
        width: channels after the first convolution; the features are three times as wide.
    """

    def __init__(self, channels: int, classes: int, width: int = 32):
        super().__init__()
        w = width
        plan = [(channels, w, 5, 2), (w, w * 3 // 2, 3, 2), (w * 3 // 2, 2 * w, 3, 1), (2 * w, 3 * w, 3, 2)]
        layers = [
            nn.Sequential(nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o), nn.ReLU())
            for i, o, k, stride in plan
        ]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.score = nn.Linear(3 * w, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float -> (B, classes) logits."""
        return self.score(self.features(images))
