"""ConvAE: what has to be remembered of an image to draw it again.

    loss = mean |x - x'|^2  +  weight * perceptual distance(x, x')

The perceptual distance (Johnson et al. 2016) compares not pixels but what a network trained on ImageNet makes of them.
Such a network takes three channels: at every step each image shows it one channel, drawn at random, as a grey
photograph, which gives the distance over all channels on average at the price of one.

Any ImageNet network that is at hand will do (`nn/pretrained.py`); it is needed for training only. The paper used
ResNet-50's.

References: Mascolini et al. 2022, after Wallace and Hariharan 2020 (arXiv 2004.11992); arXiv 1603.08155 (perceptual
loss).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gandl_lib.methods.base import Method
from gandl_lib.nn import pretrained
from gandl_lib.nn.autoencoder import Decoder, Encoder
from gandl_lib.nn.layers import adam_groups
from gandl_lib.nn.stylegan2 import StyleGAN2Config


@dataclass(frozen=True)
class ConvAEConfig:
    sizes: StyleGAN2Config = field(
        default_factory=lambda: StyleGAN2Config(resolution=256, width_base=16384, latent=1024)
    )
    """Of encoder and decoder alike; `latent`, a multiple of 16, is the embedding."""
    batch: int = 32
    learning_rate: float = 1e-2
    """Of equalised weights: a weight that n numbers enter moves at 1 / sqrt(n) of it."""
    perceptual_weight: float = 0.1
    """0: pixels only, and no ImageNet network needed."""
    perceptual_network: str = "squeezenet1_1"


PRESETS = {
    "small": ConvAEConfig(sizes=StyleGAN2Config(resolution=64, width_base=512, width_max=128, latent=1024)),
    "paper": ConvAEConfig(),
    "tiny": ConvAEConfig(
        sizes=StyleGAN2Config(resolution=16, width_base=64, width_max=16, latent=32), batch=8, perceptual_weight=0.0
    ),
}
"""paper: 1024 features, as published; nothing else is. small: what a core trains in minutes."""


class ConvAE(Method):
    """The method seam around encoder and decoder."""

    presets = PRESETS
    training_only = ("decoder.",)

    def __init__(self, config: ConvAEConfig, channels: int):
        super().__init__(config, channels)
        self.batch, self.crop_px = config.batch, config.sizes.resolution
        self.encoder = Encoder(config.sizes, channels).to(memory_format=torch.channels_last)
        self.decoder = Decoder(config.sizes, channels).to(memory_format=torch.channels_last)
        self.perceptual = []  # the ImageNet network, brought by the first step and hidden from state_dict in a list

    @cached_property
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        groups = adam_groups(nn.ModuleList([self.encoder, self.decoder]), self.config.learning_rate)
        return {"autoencoder": torch.optim.Adam(groups)}

    def step(self, images: Tensor, n_seen: int) -> dict[str, Tensor]:
        """One step on images (B, C, R, R) in [-1, 1]."""
        drawn = self.decoder(self.encoder(images))
        terms = {"pixels": F.mse_loss(drawn, images)}
        loss = terms["pixels"]
        if self.config.perceptual_weight > 0:
            terms["perceptual"] = self._distance(drawn, images)
            loss = loss + self.config.perceptual_weight * terms["perceptual"]
        self.update("autoencoder", loss)
        return {name: term.detach() for name, term in terms.items()}

    def _distance(self, drawn: Tensor, images: Tensor) -> Tensor:
        """Mean squared difference of the network's maps, each map layer in units of its own mean square."""
        if not self.perceptual:
            self.perceptual.append(pretrained.network(self.config.perceptual_network).to(images.device))
        (network,) = self.perceptual
        channel = torch.randint(images.shape[1], (len(images), 1, 1, 1), device=images.device)
        shown = [x.gather(1, channel.expand(-1, 1, *x.shape[2:])).expand(-1, 3, -1, -1) for x in (drawn, images)]
        with torch.no_grad():
            wanted = network.maps(shown[1])
        found = network.maps(shown[0])
        ratios = [F.mse_loss(a, b) / b.square().mean().clamp(min=1e-6) for a, b in zip(found, wanted, strict=True)]
        return torch.stack(ratios).mean()

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, C, R, R) in [-1, 1] -> (B, latent) float32."""
        return self.encoder(images).float()
