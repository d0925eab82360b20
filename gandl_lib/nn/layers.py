"""The parts StyleGAN2 is made of: equalised learning rates, the binomial FIR filter, minibatch standard deviation.

*Equalised learning rate* (Karras et al. 2018, sec. 4.1) stores weights with unit variance and multiplies them by
He's constant at every use. Under Adam, whose step does not depend on the scale of the gradient, this is the same as
storing the multiplied weight and giving it a learning rate (and epsilon) scaled by that constant. We store the
multiplied weight: nothing is recomputed in a forward pass, and a saved weight is the weight. `adam_groups` sets the
scaled rates.

*FIR filter*: the separable binomial [1, 3, 3, 1] with which StyleGAN2 resamples. Shrinking and blurring are symmetric
linear operations, so each one's derivative is a member of the same family; `_FIR` says so to autograd, which
keeps first, second and all further derivatives (R1 needs the second) in the one fast depthwise convolution.

References: arXiv 1710.10196 (equalised rates), 1812.04948, 1912.04958 (StyleGAN, StyleGAN2).
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gandl_lib.nn.convolution import conv2d

SLOPE = 0.2
"""Negative slope of every leaky ReLU."""
ACT_GAIN = 2**0.5
"""Restores unit variance after a leaky ReLU. Layers fold it into whatever comes next instead of scaling activations."""


def equalised(shape: tuple[int, ...], gain: float, init: float | None = None) -> nn.Parameter:
    """A parameter drawn from N(0, gain^2), or filled with `init`, whose learning rate is to be multiplied by `gain`."""
    value = torch.randn(shape) * gain if init is None else torch.full(shape, float(init))
    parameter = nn.Parameter(value)
    parameter.lr_gain = gain
    return parameter


def adam_groups(module: nn.Module, lr: float, eps: float = 1e-8) -> list[dict]:
    """Parameter groups for Adam that realise the equalised learning rates of `module`.

    With w = gain * v, Adam on v with rate lr and epsilon eps moves w exactly as Adam on w with rate lr * gain
    and epsilon eps / gain.
    """
    groups = defaultdict(list)
    for parameter in module.parameters():
        groups[getattr(parameter, "lr_gain", 1.0)].append(parameter)
    return [{"params": p, "lr": lr * gain, "eps": eps / gain} for gain, p in groups.items()]


class Linear(nn.Module):
    """y = x W^T + b, (*, I) -> (*, O), with equalised rates.

    Args:
        lr_multiplier: slows this layer's learning (0.01 in the mapping network).
        gain: extra factor folded into W, such as a preceding activation's `ACT_GAIN`.
        bias: initial bias.
    """

    def __init__(self, i: int, o: int, *, lr_multiplier: float = 1.0, gain: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = equalised((o, i), gain / i**0.5)
        self.weight.lr_gain *= lr_multiplier
        self.bias = equalised((o,), lr_multiplier, init=bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Conv2d(nn.Module):
    """k x k convolution (B, I, H, W) -> (B, O, H', W') with equalised rates."""

    def __init__(
        self, i: int, o: int, k: int, *, stride: int = 1, padding: int = 0, bias: bool = True, gain: float = 1.0
    ):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = equalised((o, i, k, k), gain / (i * k * k) ** 0.5)
        self.bias = equalised((o,), 1.0, init=0.0) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)


@lru_cache(maxsize=64)
def _binomial(channels: int, gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Depthwise weights (C, 1, 4, 4) of the [1, 3, 3, 1] filter, summing to `gain`."""
    f = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float32, device=device)
    f = torch.outer(f, f)
    return (f * (gain / f.sum())).to(dtype).expand(channels, 1, 4, 4).contiguous()


class _FIR(torch.autograd.Function):
    """Depthwise binomial filter; forward and backward are the two directions of one linear map.

    direction "down" correlates with the given stride and padding; "up" is its transpose.
    """

    @staticmethod
    def forward(ctx, x: Tensor, direction: str, stride: int, padding: int, gain: float) -> Tensor:
        ctx.args = direction, stride, padding, gain
        f = _binomial(x.shape[1], gain, x.dtype, x.device)
        conv = F.conv2d if direction == "down" else F.conv_transpose2d
        return conv(x, f, stride=stride, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx, g: Tensor):
        direction, stride, padding, gain = ctx.args
        transpose = "up" if direction == "down" else "down"
        return _FIR.apply(g, transpose, stride, padding, gain), None, None, None, None


def downsample(x: Tensor) -> Tensor:
    """Filter and keep every second pixel: (B, C, H, W) -> (B, C, H/2, W/2). H and W must be even."""
    return _FIR.apply(x, "down", 2, 1, 1.0)


def upsample(x: Tensor) -> Tensor:
    """Put zeros between pixels and filter: (B, C, H, W) -> (B, C, 2H, 2W), mean preserved."""
    return _FIR.apply(x, "up", 2, 1, 4.0)


def blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Filter without resampling: (B, C, H, W) -> (B, C, H + 2 padding - 3, W + 2 padding - 3)."""
    return _FIR.apply(x, "down", 1, padding, gain)


def stddev_group(batch: int, most: int) -> int:
    """The largest divisor of `batch` not above `most`."""
    return next(g for g in range(min(most, batch), 0, -1) if batch % g == 0)


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """Standard deviation across a group of images, averaged over features and pixels: (B, C, H, W) -> (B,).

    Groups are runs of `group` neighbours in the batch (the largest divisor of B not above `group`), so batches
    joined end to end keep their own statistics.
    """
    batch = len(x)
    group = stddev_group(batch, group)
    grouped = x.float().reshape(batch // group, group, -1)  # [n, G, CHW]
    deviation = (grouped.var(dim=1, unbiased=False) + 1e-8).sqrt().mean(dim=1)  # [n]
    return deviation.repeat_interleave(group)
