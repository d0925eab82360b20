"""Blurring with a Gaussian, which several methods that learn nothing measure by."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def blur(images: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of (B, 1, H, W), the border repeated outwards."""
    radius = max(1, min(round(3 * sigma_px), *(side - 1 for side in images.shape[2:])))
    at = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (at / sigma_px) ** 2)
    kernel = (kernel / kernel.sum())[None, None]
    images = F.pad(images, [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(images, kernel[..., None]), kernel[:, :, None])  # [B1HW]: columns, then rows
