"""A convolutional autoencoder out of StyleGAN2's residual blocks.

The encoder is StyleGAN2's residual discriminator without its verdict: blocks that halve the image down to 4 x 4, then a
1 x 1 convolution to `latent` / 16 maps, whose 16 pixels each are the code. The decoder is its mirror image.

References: Wallace and Hariharan 2020 (autoencoders among representations to be compared, arXiv 2004.11992); Karras et
al. 2020 (residual blocks, sec. 4.1). Widths and losses are not published by those who joined the two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gandl_lib.nn.layers import ACT_GAIN, SLOPE, Conv2d, upsample
from gandl_lib.nn.stylegan2 import ResidualBlock, StyleGAN2Config


class GrowingBlock(nn.Module):
    """Doubles the image: (B, I, H, W) -> (B, O, 2 H, 2 W), (skip + main) / sqrt(2)."""

    def __init__(self, i: int, o: int):
        super().__init__()
        self.conv1 = Conv2d(i, o, 3, padding=1)
        self.conv2 = Conv2d(o, o, 3, padding=1, gain=ACT_GAIN)
        self.skip = Conv2d(i, o, 1, bias=False, gain=2**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu_(self.conv1(upsample(x)), SLOPE)
        a = F.leaky_relu_(self.conv2(a), SLOPE)  # its own sqrt(2) cancels the sum's 1 / sqrt(2)
        return a + upsample(self.skip(x))


class Encoder(nn.Module):
    """(B, C, R, R) -> (B, latent)."""

    def __init__(self, sizes: StyleGAN2Config, channels: int):
        super().__init__()
        if sizes.smallest != 4:
            raise ValueError(f"the code is 4 x 4, so resolution must be a power of two; found {sizes.resolution}.")
        width, falling = sizes.width, sizes.resolutions[::-1]
        self.from_image = Conv2d(channels, width(falling[0]), 1)
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(width(r), width(r // 2), input_gain=ACT_GAIN if r == sizes.resolution else 1.0)
                for r in falling[:-1]
            )
        )
        self.code = Conv2d(width(4), sizes.latent // 16, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.leaky_relu_(self.from_image(images.contiguous(memory_format=torch.channels_last)), SLOPE)
        return self.code(self.blocks(x)).flatten(1)


class Decoder(nn.Module):
    """(B, latent) -> (B, C, R, R)."""

    def __init__(self, sizes: StyleGAN2Config, channels: int):
        super().__init__()
        width, growing = sizes.width, sizes.resolutions
        self.maps = sizes.latent // 16
        self.open = Conv2d(self.maps, width(4), 1)
        self.blocks = nn.Sequential(*(GrowingBlock(width(r // 2), width(r)) for r in growing[1:]))
        self.to_image = Conv2d(width(growing[-1]), channels, 1)

    def forward(self, code: Tensor) -> Tensor:
        x = code.unflatten(1, (self.maps, 4, 4)).contiguous(memory_format=torch.channels_last)
        return self.to_image(self.blocks(self.open(x)))
