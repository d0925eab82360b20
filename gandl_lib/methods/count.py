"""How many nuclei a site shows, and nothing else of it.

Whatever kills cells or stops them growing changes this number, so that it alone tells many treatments apart. An
embedding that does no better has learnt to count.

A nucleus is a spot: the first channel, blurred over a third of a nucleus, less its neighbourhood, has a maximum there.
Counted are maxima that stand out of the site's own background, so that a dim site is counted like a bright one:

    d = blur(x, 3 um) - blur(x, 12 um),     d(spot) > median(d) + 4 sigma,     sigma = 1.4826 median |d - median(d)|

and at least a quarter as high as the site's brighter spots (the 90th percentile of the maxima found).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gandl_lib.methods.base import Method
from gandl_lib.nn.gaussian import blur


@dataclass(frozen=True)
class CountConfig:
    pixel_um: float = 2.0
    """Images are resampled to pixels of this size, so that a nucleus is equally large in all of them."""
    spot_um: float = 3.0
    around_um: float = 12.0
    apart_um: float = 8.0
    """Two maxima nearer than this are one nucleus."""
    sigmas: float = 4.0
    of_bright: float = 0.25


class CellCount(Method):
    """Number of nuclei in the first channel: D = 1."""

    presets = {"default": CountConfig()}
    trainable = False

    @property
    def pixel_um(self) -> float:
        return self.config.pixel_um

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1) float32."""
        c = self.config
        x = images[:, :1].float()
        d = blur(x, c.spot_um / c.pixel_um) - blur(x, c.around_um / c.pixel_um)  # [B1HW]
        reach = max(1, round(c.apart_um / c.pixel_um / 2))
        peak = d == F.max_pool2d(d, 2 * reach + 1, stride=1, padding=reach)
        counts = []
        for one, top in zip(d.flatten(1), peak.flatten(1), strict=True):
            middle = one.median()
            noise = 1.4826 * (one - middle).abs().median()
            heights = one[top & (one > middle + c.sigmas * noise) & (one > middle + 1e-4)] - middle  # not what is flat
            bright = heights.quantile(0.9) if len(heights) else one.new_tensor(0.0)
            counts.append((heights > c.of_bright * bright).sum())
        return torch.stack(counts).float()[:, None]
