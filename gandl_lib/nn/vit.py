"""Masked autoencoder: a small vision transformer that sees a quarter of an image and draws the rest.

    encoder  patches of p x p pixels, all channels together, one token each; transformer over the visible ones
    decoder  a narrower transformer over all places, a learnt token where nothing was seen; pixels of each patch

Positions are fixed sines and cosines, half of the features for each direction. The blocks are PyTorch's own, with the
normalisation first.

References: Dosovitskiy et al. 2021 (arXiv 2010.11929); He et al. 2022 (arXiv 2111.06377); on cell images, Kraus et al.
2024 (arXiv 2404.10242).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ViTConfig:
    resolution: int = 256
    patch: int = 16
    width: int = 384
    depth: int = 12
    heads: int = 6
    decoder_width: int = 256
    decoder_depth: int = 4
    decoder_heads: int = 8

    def __post_init__(self):
        if self.resolution % self.patch:
            raise ValueError(f"patches of {self.patch} pixels do not tile images of {self.resolution}.")
        for width, heads in ((self.width, self.heads), (self.decoder_width, self.decoder_heads)):
            if width % heads or width % 4:
                raise ValueError(f"a width must be a multiple of 4 and of its heads; got {width} and {heads} heads.")

    @property
    def side(self) -> int:
        """Patches along each side."""
        return self.resolution // self.patch


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder; `features` reads the first, whole images seen.

    Args:
        config: sizes.
        channels: C.
    """

    def __init__(self, config: ViTConfig, channels: int):
        super().__init__()
        self.config, self.channels = config, channels
        self.patches = nn.Conv2d(channels, config.width, config.patch, config.patch)
        self.encoder = _blocks(config.width, config.depth, config.heads)
        self.narrow = nn.Linear(config.width, config.decoder_width)
        self.unseen = nn.Parameter(0.02 * torch.randn(config.decoder_width))
        self.decoder = _blocks(config.decoder_width, config.decoder_depth, config.decoder_heads)
        self.pixels = nn.Linear(config.decoder_width, channels * config.patch**2)
        self.register_buffer("places", positions(config.side, config.width), persistent=False)
        self.register_buffer("decoder_places", positions(config.side, config.decoder_width), persistent=False)

    def tokens(self, images: Tensor) -> Tensor:
        """(B, C, R, R) -> (B, T, width), patch after patch, row by row, with their places."""
        return self.patches(images).flatten(2).transpose(1, 2) + self.places

    def features(self, images: Tensor) -> Tensor:
        """(B, C, R, R) -> (B, width): mean of the last block's tokens, nothing masked."""
        return self.encoder(self.tokens(images)).mean(1)

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Draw all patches from the visible ones.

        Args:
            images: (B, C, R, R).
            visible: (B, V) int64, places in the order of `tokens`.

        Returns:
            (B, T, C p p), pixels as `patchify` orders them.
        """
        tokens = self.tokens(images)
        seen = self.encoder(_take(tokens, visible))
        seen = self.narrow(seen)
        shown = self.unseen.to(seen.dtype).expand(*tokens.shape[:2], -1)
        index = visible[:, :, None].expand(-1, -1, shown.shape[2])
        shown = shown.scatter(1, index, seen)
        return self.pixels(self.decoder(shown + self.decoder_places))

    def patchify(self, images: Tensor) -> Tensor:
        """(B, C, R, R) -> (B, T, C p p)."""
        p = self.config.patch
        return F.unfold(images, p, stride=p).transpose(1, 2)


def _blocks(width: int, depth: int, heads: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)


def _take(tokens: Tensor, places: Tensor) -> Tensor:
    """(B, T, D) and (B, V) -> (B, V, D)."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


def positions(side: int, width: int) -> Tensor:
    """(side^2, width): sines and cosines of each patch's row, then of its column, at width / 4 frequencies each."""
    frequency = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    angle = torch.arange(side)[:, None] * frequency  # [S, W/4]
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)  # [S, W/2]
    return torch.cat([wave.repeat_interleave(side, 0), wave.repeat(side, 1)], dim=1)
