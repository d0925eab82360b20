"""DenseNet for any number of channels, as monai has it: every layer reads the outputs of all layers before it.

Reference: Huang et al. 2017 (arXiv 1608.06993). The mean over the last maps has 1024 numbers in DenseNet-121 and 2208
in DenseNet-161.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

WIDTHS = {"densenet121": 1024, "densenet161": 2208}
SIZES = {
    "densenet121": {"init_features": 64, "growth_rate": 32, "block_config": (6, 12, 24, 16)},
    "densenet161": {"init_features": 96, "growth_rate": 48, "block_config": (6, 12, 36, 24)},
}
"""Table 1 of the paper, which calls them by layers (121) and by layers and growth (161, k = 48)."""


class DenseNet(nn.Module):
    """Everything before the classifier: (B, C, H, W) -> (B, width).

    Args:
        name: densenet121 or densenet161.
        channels: C of the images.

    Raises:
        ValueError: where monai is not installed.
    """

    def __init__(self, name: str, channels: int = 3):
        super().__init__()
        try:
            from monai.networks.nets import DenseNet as Published
        except ImportError as error:
            raise ValueError(f"{name} needs monai ({error}); pip install 'gandl[methods]' brings it.") from None
        self.width = WIDTHS[name]
        self.features = Published(spatial_dims=2, in_channels=channels, out_channels=1, **SIZES[name]).features

    def maps(self, images: Tensor) -> list[Tensor]:
        """The outputs of the four dense blocks."""
        found = []
        for name, layer in self.features.named_children():
            images = layer(images)
            if name.startswith("denseblock"):
                found.append(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).relu().mean(dim=(2, 3))


def from_torchvision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under torchvision's names (`denselayer1.norm.1.weight` or `.norm1.weight`) under ours."""
    pattern = re.compile(r"^(features\..*denselayer\d+)\.(norm|conv)\.?([12])\.(\w+)$")
    return {pattern.sub(r"\1.layers.\2\3.\4", name): t for name, t in tensors.items() if name.startswith("features.")}
