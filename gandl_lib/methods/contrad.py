"""ContraD: a discriminator that is asked to represent, and judges with what it then knows.

The network of GAN-DL, with three small heads h on its penultimate features f in place of the one logit. x, x' are two
views of the same real images, u views of generated ones; sg stops the gradient, so that judging teaches the features
nothing:

    features         contrast over h_real f(x), h_real f(x'):  x and x' of one image are alike
                  +  contrast over h_fake f(x, x', u):         all generated images are alike, real ones are others
    judge         +  -log D(x) - log(1 - D(u)),                D = h_judge sg(f)
    generator        -log D(u) with D = h_judge f, and path length as in StyleGAN2

Beyond the three papers of this book, and never called GAN-DL: it answers what a discriminator's features could be if
they were asked for. No R1 and no Lipschitz penalty (the judge sees no image whose gradient they could bound), no
minibatch statistic (a feature must be its own image's). Several processes contrast each among its own share of a batch.

Reference: Jeong & Shin 2021, ICLR (arXiv 2103.09742). Views are chosen for fluorescence: windows, flips, turns by right
angles, and the brightness of each channel on its own; no colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gandl_lib import losses
from gandl_lib.methods.gandl import GANDL, GANDLConfig
from gandl_lib.methods.gandl import PRESETS as GANDL_PRESETS
from gandl_lib.nn.layers import ACT_GAIN, SLOPE, Linear
from gandl_lib.nn.stylegan2 import Discriminator, StyleGAN2Config
from gandl_lib.views import random_intensity, random_turns, resized_crops

WINDOW_SHARE = (0.6, 1.0)


@dataclass(frozen=True)
class ContraDConfig(GANDLConfig):
    """R1's, the Lipschitz penalty's and adaptive augmentation's settings have no meaning here."""

    temperature: float = 0.1
    projection: int = 128
    fake_weight: float = 1.0
    judge_weight: float = 1.0


def _contrad(config: GANDLConfig, **changes) -> ContraDConfig:
    return ContraDConfig(**{name: getattr(config, name) for name in GANDLConfig.__dataclass_fields__} | changes)


PRESETS = {
    "quick32": _contrad(GANDL_PRESETS["quick32"], batch=64),
    "gpu128": _contrad(GANDL_PRESETS["gpu128"], batch=256),
    "tiny": _contrad(GANDL_PRESETS["tiny"], projection=16),
}
"""The networks of GAN-DL's presets of these names; contrast wants larger batches."""


def mlp(i: int, o: int) -> nn.Module:
    return nn.Sequential(Linear(i, i, gain=ACT_GAIN), nn.LeakyReLU(SLOPE), Linear(i, o, gain=ACT_GAIN))


class ContrastiveDiscriminator(Discriminator):
    """(B, C, R, R) -> logits (B,), by a head that learns on top of features it cannot change."""

    def __init__(self, config: StyleGAN2Config, channels: int, projection: int):
        super().__init__(config, channels)
        self.out = mlp(config.features, 1)
        self.project_real = mlp(config.features, projection)
        self.project_fake = mlp(config.features, projection)

    def forward(self, images: Tensor, *, real: bool = False) -> Tensor:
        return self.judge(self.features(images))

    def judge(self, features: Tensor) -> Tensor:
        """Logits (B,) of features (B, D)."""
        return self.out(features).squeeze(1).float()


class Views(nn.Module):
    """(B, C, S, S) -> (B, C, S, S): one view of each image."""

    def forward(self, images: Tensor) -> Tensor:
        return random_intensity(random_turns(resized_crops(images, WINDOW_SHARE)))


class ContraD(GANDL):
    """The method seam; see `GANDL` for all that is not said here."""

    presets = PRESETS
    training_only = ("generator.", "discriminator.project_")
    together = None  # its losses compare every image with all others

    def __init__(self, config: ContraDConfig, channels: int):
        super().__init__(config, channels)
        self.augment = Views()

    def make_discriminator(self) -> Discriminator:
        return ContrastiveDiscriminator(self.config.network, self.channels, self.config.projection)

    def _step_discriminator(self, real: Tensor, fake: Tensor, iteration: int) -> dict[str, Tensor]:
        c, D, n = self.config, self.discriminator.requires_grad_(True), len(real)
        features = D.features(torch.cat([self.augment(real), self.augment(real), self.augment(fake)]))
        k = torch.arange(2 * n, device=real.device) % n
        pairs = k[:, None] == k
        generated = torch.arange(3 * n, device=real.device) >= 2 * n
        both = generated[:, None] & generated
        logits = D.judge(features.detach())
        terms = {
            "contrast_real": losses.contrastive(D.project_real(features[: 2 * n]), pairs, c.temperature),
            "contrast_fake": losses.contrastive(D.project_fake(features), both, c.temperature),
            "loss_d": losses.discriminator_logistic(logits[:n], logits[2 * n :]),
            "logit_real": logits[:n].mean(),
            "logit_fake": logits[2 * n :].mean(),
        }
        loss = terms["contrast_real"] + c.fake_weight * terms["contrast_fake"] + c.judge_weight * terms["loss_d"]
        self.update("discriminator", loss)
        return terms
