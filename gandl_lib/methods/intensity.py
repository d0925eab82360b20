"""Intensity statistics: what one knows of a site without looking at where anything is.

The first thing anybody should compute, and the bar that an embedding of morphology has to clear.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gandl_lib.methods.base import Method

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class IntensityConfig:
    """There is nothing to configure."""


class Intensity(Method):
    """Mean, standard deviation, skewness, excess kurtosis and seven quantiles of every channel: D = 11 C."""

    presets = {"default": IntensityConfig()}
    trainable = False

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 11 C) float32."""
        x = images.float().flatten(2)  # [B, C, HW]
        mean, sd = x.mean(dim=2, keepdim=True), x.std(dim=2, keepdim=True).clamp(min=1e-6)
        u = (x - mean) / sd
        at = torch.tensor(QUANTILES, device=x.device) * (x.shape[2] - 1)
        quantiles = x.sort(dim=2).values[:, :, at.round().long()]
        moments = torch.cat([mean, sd, u.pow(3).mean(2, keepdim=True), u.pow(4).mean(2, keepdim=True) - 3], dim=2)
        return torch.cat([moments, quantiles], dim=2).flatten(1)
