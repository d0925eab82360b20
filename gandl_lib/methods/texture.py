"""Texture statistics: how bright a site is and how much happens at which scale, and nothing learnt.

What anybody can write in ten lines, and the bar that training has to clear: percentiles of every channel, and of every
channel the energy of differences of Gaussians,

    d_k = blur(x, s_k) - blur(x, s_{k+1}),     log(sd(d_k) + 0.001),     s = 0.5, 1, 2, 4, 8, 16 pixels
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gandl_lib.methods.base import Method
from gandl_lib.nn.gaussian import blur


@dataclass(frozen=True)
class TextureConfig:
    percentiles: tuple[float, ...] = (1, 5, 25, 50, 75, 95, 99)
    scales_px: tuple[float, ...] = (0.5, 1, 2, 4, 8, 16)


class Texture(Method):
    """Percentiles and energies of differences of Gaussians of every channel: D = (7 + 5) C."""

    presets = {"default": TextureConfig()}
    trainable = False

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 12 C) float32."""
        x = images.float()
        at = torch.tensor(self.config.percentiles, device=x.device) / 100 * (x[0, 0].numel() - 1)
        percentiles = x.flatten(2).sort(dim=2).values[:, :, at.round().long()]  # [BCP]
        blurred = [blur(x.flatten(0, 1)[:, None], s).view_as(x) for s in self.config.scales_px]
        energies = [(a - b).flatten(2).std(dim=2) for a, b in zip(blurred, blurred[1:], strict=False)]  # [BC] each
        return torch.cat([percentiles, (torch.stack(energies, dim=2) + 1e-3).log()], dim=2).flatten(1)
