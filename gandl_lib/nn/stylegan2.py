"""StyleGAN2 for images of any number of channels, with GAN-DL's adaptations.

Written from the papers: style-based synthesis with weight demodulation, output skips and a residual discriminator
(Karras et al. 2020, sec. 2.2 and 4; configuration F), for C-channel microscopy with a mapping network of three
layers and a 512-wide layer before the logit, whatever the widths below it (Mascolini et al. 2022). That layer is the
embedding.

Scales. Every leaky ReLU wants a factor sqrt(2) after it. Activations here go without; the factor sits in the weights
or styles of whatever reads them. `a` below always denotes such an activation, true value sqrt(2) a.

References: arXiv 1912.04958, 2107.07761.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gandl_lib.nn.convolution import conv2d, conv_transpose2d, without_fp16
from gandl_lib.nn.layers import (
    ACT_GAIN,
    SLOPE,
    Conv2d,
    Linear,
    blur,
    downsample,
    equalised,
    minibatch_stddev,
    upsample,
)

TAPS = ("penultimate", "blocks")
"""Where features can be read; see `Discriminator.features`."""


@dataclass(frozen=True)
class StyleGAN2Config:
    """Sizes of both networks.

    A layer at r x r pixels has min(width_base // r, width_max) features.
    """

    resolution: int = 64
    width_base: int = 8192
    width_max: int = 512
    latent: int = 512
    mapping_layers: int = 3
    features: int = 512
    stddev_group: int = 4
    head: str = "flatten"
    """How the smallest maps become a vector: "flatten" as published, or "pool" (mean over pixels)."""

    def __post_init__(self):
        if self.resolution < 8 or self.smallest not in (3, 4):
            raise ValueError(
                f"resolution must be a power of two from 8 upwards, or three times one; found {self.resolution}."
            )
        if self.head not in ("flatten", "pool"):
            raise ValueError(f"head must be 'flatten' or 'pool', found {self.head!r}.")

    def width(self, r: int) -> int:
        return min(self.width_base // r, self.width_max)

    @property
    def smallest(self) -> int:
        """Side of the smallest maps: 4 as published, 3 for three times a power of two."""
        side = self.resolution
        while side > 4 and side % 2 == 0:
            side //= 2
        return side

    @property
    def resolutions(self) -> list[int]:
        """4, 8, ..., resolution; or 3, 6, ..."""
        found = [self.smallest]
        while found[-1] < self.resolution:
            found.append(2 * found[-1])
        return found


class Mapping(nn.Module):
    """z -> w: normalise, then fully connected layers that learn a hundred times slower. (B, Z) -> (B, Z)."""

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        n = config.mapping_layers
        self.layers = nn.ModuleList(
            Linear(config.latent, config.latent, lr_multiplier=0.01, gain=ACT_GAIN if k else 1.0) for k in range(n)
        )

    def forward(self, z: Tensor) -> Tensor:
        a = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            a = F.leaky_relu(layer(a), SLOPE)
        return a * ACT_GAIN


class StyledConv(nn.Module):
    """Modulated, demodulated 3 x 3 convolution, noise, bias, leaky ReLU. (B, I, H, W), (B, W) -> (B, O, H', W').

    Scaling the weights per sample, as the paper writes it, equals scaling the input's features by the style s and the
    output's features by 1 / sqrt(sum_i s_i^2 sum_k W_oik^2): one ordinary convolution for the whole batch.
    """

    def __init__(self, i: int, o: int, latent: int, *, up: bool = False, input_gain: float = ACT_GAIN):
        super().__init__()
        self.up, self.input_gain = up, input_gain
        self.affine = Linear(latent, i, bias=1.0)
        self.weight = equalised((o, i, 3, 3), 1 / (i * 9) ** 0.5)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = equalised((o,), 1.0, init=0.0)

    def forward(self, a: Tensor, w: Tensor) -> Tensor:
        s = self.affine(w)  # (B, I)
        with without_fp16(s):  # a sum of squares beyond its range would give 0 and not be noticed
            squares = s.float().square() @ self.weight.float().square().sum(dim=(2, 3)).T
        demodulation = (squares + 1e-8).rsqrt()  # (B, O)
        x = a * (s * self.input_gain).to(a.dtype)[:, :, None, None]
        if self.up:
            x = conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = blur(x, padding=1, gain=4.0)
        else:
            x = conv2d(x, self.weight, padding=1)
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype) * self.noise_strength.to(x.dtype)
        x = torch.addcmul(noise, x, demodulation.to(x.dtype)[:, :, None, None])
        return F.leaky_relu_(x.add_(self.bias.to(x.dtype)[:, None, None]), SLOPE)


class ToImage(nn.Module):
    """Modulated 1 x 1 convolution to C channels, not demodulated. (B, I, H, W), (B, W) -> (B, C, H, W)."""

    def __init__(self, i: int, channels: int, latent: int):
        super().__init__()
        self.affine = Linear(latent, i, bias=1.0)
        self.weight = equalised((channels, i, 1, 1), 1 / i**0.5)
        self.bias = equalised((channels,), 1.0, init=0.0)

    def forward(self, a: Tensor, w: Tensor) -> Tensor:
        s = self.affine(w) * ACT_GAIN
        return conv2d(a * s.to(a.dtype)[:, :, None, None], self.weight, self.bias)


class Generator(nn.Module):
    """Latents to images: `mapping` then `synthesis`.

    Styles enter at `n_layers` places: two convolutions a resolution (one at the smallest); each image output shares the
    style of the convolution that follows it, as in the paper's counting.
    """

    def __init__(self, config: StyleGAN2Config, channels: int):
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.register_buffer("w_mean", torch.zeros(config.latent))
        resolutions, width, latent = config.resolutions, config.width, config.latent
        side = config.smallest
        self.constant = nn.Parameter(torch.randn(1, width(side), side, side))
        self.convs = nn.ModuleList([StyledConv(width(side), width(side), latent, input_gain=1.0)])
        self.to_image = nn.ModuleList([ToImage(width(side), channels, latent)])
        for r in resolutions[1:]:
            self.convs.append(StyledConv(width(r // 2), width(r), latent, up=True))
            self.convs.append(StyledConv(width(r), width(r), latent))
            self.to_image.append(ToImage(width(r), channels, latent))
        self.n_layers = len(self.convs) + 1

    def styles(self, z: Tensor, mixing: float = 0.0) -> Tensor:
        """(B, Z) -> (B, L, W). With probability `mixing` a sample takes a second latent from a random layer on."""
        w = self.mapping(z)
        if self.training:
            self.w_mean.lerp_(w.detach().float().mean(dim=0), 0.002)
        w = w[:, None].expand(-1, self.n_layers, -1)
        if mixing > 0:
            other = self.mapping(torch.randn_like(z))[:, None]
            start = torch.randint(1, self.n_layers, (len(z),), device=z.device)
            start = torch.where(torch.rand(len(z), device=z.device) < mixing, start, self.n_layers)
            layer = torch.arange(self.n_layers, device=z.device)
            w = torch.where((layer[None] < start[:, None])[:, :, None], w, other)
        return w

    def synthesis(self, w: Tensor) -> Tensor:
        """(B, L, W) -> (B, C, R, R), float32 whatever the precision in between."""
        a = self.constant.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        a = self.convs[0](a, w[:, 0])
        image = self.to_image[0](a, w[:, 1])
        for k, to_image in enumerate(self.to_image[1:], start=1):
            a = self.convs[2 * k - 1](a, w[:, 2 * k - 1])
            a = self.convs[2 * k](a, w[:, 2 * k])
            image = upsample(image) + to_image(a, w[:, 2 * k + 1])
        return image.float()

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """(B, Z) -> (B, C, R, R) in about [-1, 1]; truncation below one pulls styles towards their mean."""
        w = self.styles(z)
        return self.synthesis(torch.lerp(self.w_mean, w, truncation))


class ResidualBlock(nn.Module):
    """Halves the image: (B, I, H, W) -> (B, O, H/2, W/2), (skip + main) / sqrt(2).

    Args:
        input_gain: `ACT_GAIN` where the input is a bare activation, 1 where it is a block's output.
    """

    def __init__(self, i: int, o: int, *, input_gain: float):
        super().__init__()
        self.conv1 = Conv2d(i, i, 3, padding=1, gain=input_gain)
        self.conv2 = Conv2d(i, o, 3, stride=2, gain=ACT_GAIN)  # its own sqrt(2) cancels the sum's 1 / sqrt(2)
        self.skip = Conv2d(i, o, 1, bias=False, gain=input_gain / 2**0.5)

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu_(self.conv1(x), SLOPE)
        a = F.leaky_relu_(self.conv2(blur(a, padding=2)), SLOPE)
        return a + self.skip(downsample(x))


def _moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over pixels, (B, F, H, W) -> twice (B, F).

    torch's own `std` walks through channels-last maps pixel by pixel and takes a sixth of a forward pass.
    """
    maps = maps.float()
    mean = maps.mean(dim=(2, 3))
    squares = (maps - mean[:, :, None, None]).square_().sum(dim=(2, 3))
    return mean, (squares / (maps[0, 0].numel() - 1)).sqrt()


class Discriminator(nn.Module):
    """Images to logits, with the embedding on the way: (B, C, R, R) -> (B,).

    The minibatch statistic makes a logit depend on the other images of the batch. Embeddings must not, so `features`
    puts in its place the mean statistic of real batches seen in training (`real_stddev`).
    """

    def __init__(self, config: StyleGAN2Config, channels: int):
        super().__init__()
        self.config = config
        width = config.width
        falling = config.resolutions[::-1]
        self.from_image = Conv2d(channels, width(falling[0]), 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(width(r), width(r // 2), input_gain=ACT_GAIN if r == config.resolution else 1.0)
            for r in falling[:-1]
        )
        side = config.smallest
        self.conv = Conv2d(width(side) + 1, width(side), 3, padding=1)
        pixels = side**2 if config.head == "flatten" else 1
        self.dense = Linear(width(side) * pixels, config.features, gain=ACT_GAIN)
        self.out = Linear(config.features, 1, gain=ACT_GAIN)
        self.register_buffer("real_stddev", torch.ones(()))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The output of every block, from (B, F, R/2, R/2) down to the smallest, (B, F, 4, 4)."""
        x = F.leaky_relu_(self.from_image(images.contiguous(memory_format=torch.channels_last)), SLOPE)
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps

    def penultimate(self, x: Tensor, stddev: Tensor) -> Tensor:
        """(B, F, 4, 4) and the minibatch statistic (B,) -> (B, features)."""
        stddev = stddev.to(x.dtype)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        a = F.leaky_relu_(self.conv(torch.cat([x, stddev], dim=1)), SLOPE)
        a = a.flatten(1) if self.config.head == "flatten" else a.mean(dim=(2, 3))
        return F.leaky_relu_(self.dense(a), SLOPE)

    def forward(self, images: Tensor, *, real: bool = False) -> Tensor:
        """Logits (B,). With `real`, also follow the running mean of the minibatch statistic."""
        x = self.maps(images)[-1]
        stddev = minibatch_stddev(x, self.config.stddev_group)
        if real and self.training:
            self.real_stddev.lerp_(stddev.detach().mean(), 0.01)
        return self.out(self.penultimate(x, stddev)).squeeze(1).float()

    def features(self, images: Tensor, tap: str = "penultimate") -> Tensor:
        """Embeddings (B, D), each a function of its own image.

        Args:
            images: (B, C, R, R) in [-1, 1].
            tap: "penultimate", as published: the layer before the logit; or "blocks": mean and standard deviation
                over pixels of every block's output, concatenated.
        """
        return self.read(self.maps(images), tap)

    def read(self, maps: list[Tensor], tap: str) -> Tensor:
        """Features (B, D) at a tap of the blocks' outputs `maps`."""
        if tap == "blocks":
            return torch.cat([s for m in maps for s in _moments(m)], dim=1)
        if tap != "penultimate":
            raise ValueError(f"tap must be one of {', '.join(TAPS)}; found {tap!r}.")
        return self.penultimate(maps[-1], self.real_stddev.expand(len(maps[-1])))
