"""The baseline: a network that was told which compound every well received.

Cuccarese et al. (2020) train a DenseNet-161 to name the perturbation of an image. The mean over its last maps passes
through one linear layer, whose output is the embedding; two heads read it and are optimised together,

    loss = cross-entropy of a linear softmax head  +  ArcFace (Deng et al. 2019)

where ArcFace compares directions: the angle between an embedding and the direction of its class has to be smaller by a
margin than that to any other class. The label is the `compound`, whatever its dose; wells without one are not shown. It
never learns what C+ and C- are, and so stands to the tasks of this book as siRNA labels of RxRx1 stand to RxRx19a in
the paper, but for one thing: here the labelled wells are of the very screen that is judged.

References: bioRxiv 2020.08.02.233064 (baseline); arXiv 1801.07698 (ArcFace).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gandl_lib.methods.base import Method
from gandl_lib.nn.densenet import DenseNet
from gandl_lib.nn.small_cnn import SmallCNN


@dataclass(frozen=True)
class SupervisedConfig:
    network: str = "densenet161"
    """densenet161, densenet121, or small: the four-layer `SmallCNN`."""
    features: int = 1024
    crop_px: int | None = 512
    batch: int = 32
    learning_rate: float = 1e-3
    margin_degrees: float = 28.6
    scale: float = 64.0
    """ArcFace multiplies its cosines by this; both are the values of its paper."""
    keep: str = "last"


PRESETS = {
    "small": SupervisedConfig(network="small", features=128, crop_px=64, learning_rate=2e-3, scale=16.0),
    "densenet121": SupervisedConfig(network="densenet121", crop_px=256),
    "paper": SupervisedConfig(),
    "tiny": SupervisedConfig(network="small", features=16, crop_px=16, batch=8, scale=16.0),
}
"""paper: sizes as published; batch and rates are not. small: what a core trains in minutes. DenseNets need monai."""


class Supervised(Method):
    """The method seam around network, embedding layer and two heads."""

    presets = PRESETS
    label = "compound"
    training_only = ("softmax.", "arcface.")

    def __init__(self, config: SupervisedConfig, channels: int, classes: Sequence[str] = ()):
        super().__init__(config, channels)
        self.batch, self.crop_px = config.batch, config.crop_px
        if config.network == "small":
            self.network = SmallCNN(channels, 1).features
            width = 3 * 32
        else:
            self.network = DenseNet(config.network, channels)
            width = self.network.width
        self.embedding = nn.Linear(width, config.features)
        if classes:  # not there when a trained network only embeds
            self.softmax = nn.Linear(config.features, len(classes))
            self.arcface = _arcface(len(classes), config)

    @cached_property
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"network": torch.optim.Adam(self.parameters(), self.config.learning_rate)}

    def features(self, images: Tensor) -> Tensor:
        return self.embedding(self.network(images))

    def step(self, images: Tensor, n_seen: int, labels: Tensor) -> dict[str, Tensor]:
        """One step on images (B, C, R, R) and classes (B,) int64."""
        z = self.features(images)
        logits = self.softmax(z)
        terms = {
            "softmax": F.cross_entropy(logits, labels),
            "arcface": self.arcface(z.float(), labels),
        }  # it takes on the type it is given
        self.update("network", sum(terms.values()))
        right = (logits.argmax(1) == labels).float().mean()
        return {name: term.detach() for name, term in terms.items()} | {"training_accuracy": right}

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """(B, C, R, R) -> (B,) classes, by the softmax head."""
        return self.softmax(self.features(images)).argmax(1)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, C, R, R) in [-1, 1] -> (B, features) float32."""
        return self.features(images).float()


def _arcface(classes: int, config: SupervisedConfig) -> nn.Module:
    try:
        from pytorch_metric_learning.losses import ArcFaceLoss
    except ImportError as error:
        raise ValueError(f"ArcFace needs pytorch-metric-learning ({error}); pip install 'gandl[methods]'.") from None
    return ArcFaceLoss(classes, config.features, margin=config.margin_degrees, scale=config.scale)
