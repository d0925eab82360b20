"""Adaptive discriminator augmentation for images of any number of channels.

With few images a discriminator learns them by heart. ADA shows it, real and generated alike, images that were changed
at random, and changes them as often as it must: the chance p of each change goes up while the mean sign of real logits
is above a target, and down while it is below.

Only what fluorescence can bear: where cells lie and how large they are, and how bright each channel is on its own.
Colour transforms would mix stains. Right-angle turns are in the stream already (`views`).

Reference: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (arXiv 2006.06676), sec. 3
and app. B. Bilinear sampling takes the place of its wavelet filters.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gandl_lib.views import random_intensity

SHIFT_SD = 0.125  # of the side
LOG2_SCALE_SD = 0.2
EVERY = 4
"""Iterations between two looks at the signs."""


def random_affine(images: Tensor, chance: Tensor | float) -> Tensor:
    """Scale, stretch, turn and shift square images (B, C, S, S), each with this chance, in one go; edges are mirrored.

    Scale 2^N(0, 0.2^2), stretch the same along one direction and its inverse across, turn by any angle, shift by
    N(0, (S / 8)^2) along either side.
    """
    b, device = len(images), images.device

    def drawn(values: Tensor, neutral: float) -> Tensor:
        return torch.where(torch.rand(b, device=device) < chance, values, neutral)

    scale = drawn(2 ** (LOG2_SCALE_SD * torch.randn(b, device=device)), 1.0)
    stretch = drawn(2 ** (LOG2_SCALE_SD * torch.randn(b, device=device)), 1.0)
    angle, across = (drawn(torch.pi * (2 * torch.rand(b, device=device) - 1), 0.0) for _ in range(2))
    x, y = (drawn(2 * SHIFT_SD * torch.randn(b, device=device), 0.0) for _ in range(2))  # the side is 2 long

    def turned(angle: Tensor) -> Tensor:
        return torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).reshape(b, 2, 2)

    sizes = torch.diag_embed(torch.stack([scale * stretch, scale / stretch], dim=1))
    matrix = turned(angle) @ sizes @ turned(across)
    theta = torch.cat([matrix, torch.stack([x, y], dim=1)[:, :, None]], dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


class AdaptiveAugment(nn.Module):
    """(B, C, S, S) -> (B, C, S, S), each kind of change with chance `p`.

    Args:
        target: mean sign of real logits to hold.
        kimg: thousands of images in which p can go from 0 to 1.
    """

    def __init__(self, target: float, kimg: float):
        super().__init__()
        self.target, self.kimg = target, kimg
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("signs", torch.zeros(()))
        self.register_buffer("n_signs", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        images = random_affine(images, self.p)
        return random_intensity(images, chance=self.p).to(images.dtype)

    @torch.no_grad()
    def follow(self, real_logits: Tensor, batch: int) -> None:
        """Take note of real logits (B,) of an iteration of `batch` images; every `EVERY` of them, move p.

        p moves before the new signs are counted, so that several processes, whose buffers are averaged after each
        iteration, move it alike.
        """
        due = self.n_signs >= EVERY
        step = torch.sign(self.signs / EVERY - self.target) * EVERY * batch / (1000 * self.kimg)
        self.p.copy_(torch.where(due, (self.p + step).clamp(0, 1), self.p))
        for buffer in (self.signs, self.n_signs):
            buffer.mul_(~due)
        self.signs.add_(real_logits.sign().mean())
        self.n_signs.add_(1)
