"""What a network knows of cells that has only seen photographs: two ways from C channels to three.

* **Concatenated**: each channel alone, shown as a grey photograph, through the frozen network; C x width features.
  Nothing is learnt.
* **Collapsed**: a trainable 1 x 1 convolution mixes the channels into RGB. It is learnt on a downstream task, C+
  against C-, through the frozen network and a linear layer (Adam, 1e-3, as published); labels are those of training
  wells. The mix that did best on *validation* wells, taken from the training wells, is kept. The paper kept the best
  accuracy on the test itself, and its weak numbers are so as high as they can be: preset `optimistic` does the same.

Whole sites are looked at. Without ImageNet weights (see `nn/pretrained.py`) neither method can be built.

Reference: Mascolini et al. 2022, where the network is DenseNet-121 (1024 and 5 x 1024 features).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gandl_lib.methods.base import Method
from gandl_lib.nn import pretrained


@dataclass(frozen=True)
class ImageNetConfig:
    network: str = "squeezenet1_1"
    """squeezenet1_1, densenet121 or densenet161."""
    weights: str | None = None
    """A file to use instead of looking for one."""
    batch: int = 32
    learning_rate: float = 1e-3
    keep: str = "validation"
    """Which tick of a training run becomes its weights: see `train.KEEP`."""


SMALL = ImageNetConfig()
PRESETS = {
    "squeezenet": SMALL,
    "paper": ImageNetConfig(network="densenet121"),
    "optimistic": replace(SMALL, keep="test"),
    "paper-optimistic": ImageNetConfig(network="densenet121", keep="test"),
}
"""squeezenet: what CPUs run in minutes. paper: the published network, needs monai."""


class ImageNetConcatenated(Method):
    """Each channel through the same network: (B, C, H, W) -> (B, C width)."""

    presets = PRESETS
    trainable = False

    def __init__(self, config: ImageNetConfig, channels: int):
        super().__init__(config, channels)
        self.network = pretrained.network(config.network, config.weights)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> (B, C width) float32: the first channel's features, then the second's."""
        grey = images.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)  # [(BC)3HW]
        return self.network(grey).unflatten(0, (len(images), -1)).flatten(1).float()


class ImageNetCollapsed(Method):
    """A learnt mix of the channels through the network: (B, C, H, W) -> (B, width)."""

    presets = PRESETS
    label, label_values = "role", ("C+", "C-")
    training_only = ("network.", "head.")
    """The network's weights are found, not carried along."""

    def __init__(self, config: ImageNetConfig, channels: int, classes: Sequence[str] = ()):
        super().__init__(config, channels)
        self.batch = config.batch
        self.network = pretrained.network(config.network, config.weights)
        self.collapse = nn.Conv2d(channels, 3, 1)
        with torch.no_grad():  # begin with a grey photograph of all channels together
            self.collapse.weight.fill_(1 / channels)
            self.collapse.bias.zero_()
        self.head = nn.Linear(self.network.width, max(len(classes), 1))

    @cached_property
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        learnt = [*self.collapse.parameters(), *self.head.parameters()]
        return {"collapse": torch.optim.Adam(learnt, self.config.learning_rate)}

    def features(self, images: Tensor) -> Tensor:
        return self.network(self.collapse(images))

    def step(self, images: Tensor, n_seen: int, labels: Tensor) -> dict[str, Tensor]:
        """One step on images (B, C, H, W) and classes (B,) int64."""
        logits = self.head(self.features(images))
        loss = F.cross_entropy(logits, labels)
        self.update("collapse", loss)
        return {"loss": loss.detach(), "training_accuracy": (logits.argmax(1) == labels).float().mean()}

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B,) classes."""
        return self.head(self.features(images)).argmax(1)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> (B, width) float32."""
        return self.features(images).float()
