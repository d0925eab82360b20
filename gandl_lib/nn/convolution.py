"""Convolutions whose derivatives of every order are convolutions of the same size.

T(x, w, y) = <y, x * w> is linear in each of its three arguments, so the derivatives of any of its three sides are made
of the other two. PyTorch leaves the second derivative to a general rule that takes the weights' side as one convolution
with a kernel as large as the image; R1 and path length spend half their time there. Here every derivative is again one
of the three sides, each computed by the library routine that is made for it.

    `_Image`     x * w and its transpose: images from images and weights
    `_Weights`   weights from two images
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from gandl_lib.nn import winograd

_weights_wanted = True


@contextmanager
def only_images() -> Iterator[None]:
    """Within it, derivatives are passed on to images and not to weights.

    For penalties on a gradient by images: autograd asks a function for all its derivatives at once, and the weights'
    would be computed to be thrown away. What is differentiated later, outside, is not affected.
    """
    global _weights_wanted
    before, _weights_wanted = _weights_wanted, False
    try:
        yield
    finally:
        _weights_wanted = before


def without_fp16(like: Tensor, wanted: bool = True) -> torch.autocast:
    """Within it, autocast to fp16 is off if that is `wanted`; bfloat16, which has the range of fp32, stays.

    For what fp16's range, 6e-5 to 65504 at full precision, may not hold. Gradient penalties above all: a scaler looks
    after the gradient of a loss and not after gradients within it, and of those of a new logit by the pixels, four in
    five lie below 6e-5 at 128 pixels. To scale them as well would multiply two scales in the second derivatives;
    penalties are lazy, and fp32 is safe. Activations need no such care: none was above 20, in quick32 and gpu128 when
    new and in the shipped quick32.

    Args:
        like: any tensor of the device in question.
    """
    device = like.device.type
    precision, on = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
    return torch.autocast(device, precision, enabled=on and not (wanted and precision == torch.float16))


def conv2d(x: Tensor, w: Tensor, b: Tensor | None = None, *, stride: int = 1, padding: int = 0) -> Tensor:
    """(B, I, H, W), (O, I, k, k) -> (B, O, H', W'), as torch.nn.functional.conv2d."""
    return _Image.apply(*_cast(x, w, b), False, stride, padding, None)


def conv_transpose2d(x: Tensor, w: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """(B, I, H, W), (I, O, k, k) -> (B, O, H', W'), as torch.nn.functional.conv_transpose2d."""
    return _Image.apply(*_cast(x, w, None), True, stride, padding, None)


def _cast(x: Tensor, *parameters: Tensor | None) -> list[Tensor | None]:
    """In autocast's precision, where there is autocast: inside a function of one's own it comes too late."""
    if not torch.is_autocast_enabled(x.device.type):
        return [x, *parameters]
    precision = torch.get_autocast_dtype(x.device.type)
    return [None if t is None else t.to(precision) for t in (x, *parameters)]


class _Image(torch.autograd.Function):
    """x * w + b, or the transpose by x; `size` is the result's (H, W) where a stride leaves it open."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, b: Tensor | None, transposed: bool, stride: int, padding: int, size):
        ctx.save_for_backward(x, w)
        ctx.args = transposed, stride, padding
        if winograd.pays(x, w.shape, stride, padding):
            y = winograd.conv2d(x, w.transpose(0, 1).flip(2, 3) if transposed else w)
            return y if b is None else y.add_(b[:, None, None])
        if not transposed:
            return F.conv2d(x, w, b, stride=stride, padding=padding)
        least = [(side - 1) * stride - 2 * padding + w.shape[-1] for side in x.shape[2:]]
        extra = [0, 0] if size is None else [side - small for side, small in zip(size, least, strict=True)]
        return F.conv_transpose2d(x, w, b, stride=stride, padding=padding, output_padding=extra)

    @staticmethod
    def backward(ctx, g: Tensor):
        (x, w), (transposed, stride, padding) = ctx.saved_tensors, ctx.args
        gx = gw = gb = None
        if ctx.needs_input_grad[0]:
            gx = _Image.apply(g, w, None, not transposed, stride, padding, x.shape[2:])
        if ctx.needs_input_grad[1] and _weights_wanted:
            large, small = (g, x) if transposed else (x, g)
            gw = _Weights.apply(large, small, w.shape, stride, padding)
        if ctx.needs_input_grad[2] and _weights_wanted:
            gb = g.sum(dim=(0, 2, 3))
        return gx, gw, gb, None, None, None, None


class _Weights(torch.autograd.Function):
    """The weights' side: from the image that goes into x * w and one of the size that comes out."""

    @staticmethod
    def forward(ctx, large: Tensor, small: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(large, small)
        ctx.args = stride, padding
        if winograd.pays(large, shape, stride, padding):
            return winograd.conv2d_weight(large, small)
        return torch.nn.grad.conv2d_weight(large, shape, small, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx, v: Tensor):
        (large, small), (stride, padding) = ctx.saved_tensors, ctx.args
        g_large = g_small = None
        if ctx.needs_input_grad[0]:
            g_large = _Image.apply(small, v, None, True, stride, padding, large.shape[2:])
        if ctx.needs_input_grad[1]:
            g_small = _Image.apply(large, v, None, False, stride, padding, None)
        return g_large, g_small, None, None, None
