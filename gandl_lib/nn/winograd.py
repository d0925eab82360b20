"""3 x 3 convolutions with a quarter of the multiplications, for a CPU.

Winograd's F(4 x 4, 3 x 3): tiles of 6 x 6 pixels and the 3 x 3 weights are taken to a space of 36 points, where the
convolution is one small matrix product a point; 36 products yield the 16 pixels that take 144 directly. Rounding error
grows some tenfold, to about 3e-6 of the result's deviation in single precision, and so it is used in no other.

The way there and back costs memory traffic. Tiles are therefore taken in chunks that stay in a core's cache, and only
layers of many features are done this way: a GPU's libraries choose for themselves.

Reference: Lavin and Gray 2015, sec. 4.2 and 4.3 (arXiv 1509.09308).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

FEATURES = 128
"""Fewest features, in and out, for which the saved multiplications outweigh the traffic."""
CHUNK = 64
"""Tiles at a time: at 128 features 36 points of them take 1.2 MB."""


def pays(x: Tensor, w: torch.Size, stride: int, padding: int) -> bool:
    """Whether a convolution of x with weights of shape w, or one of its derivatives, can be had here, and sooner."""
    return (
        w[2:] == (3, 3)
        and (stride, padding) == (1, 1)
        and min(w[:2]) >= FEATURES
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[2] % 4 == x.shape[3] % 4 == 0
        and len(x) * x.shape[2] * x.shape[3] >= 16 * CHUNK
    )


@lru_cache(maxsize=1)
def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Tiles to points (36, 36), weights to points (36, 9), points to pixels (16, 36): both axes at once."""
    tile = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]  # fmt: skip
    weights = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
               [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]  # fmt: skip
    pixels = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    one_axis = (torch.tensor(m, dtype=torch.float64) for m in (tile, weights, pixels))
    return tuple(torch.kron(m, m).float() for m in one_axis)


def conv2d(x: Tensor, w: Tensor) -> Tensor:
    """(B, I, H, W), (O, I, 3, 3) -> (B, O, H, W), padded by 1; H and W divisible by 4. Not differentiable itself."""
    to_points, weights_to_points, to_pixels = _transforms()
    o, i = w.shape[:2]
    result = torch.empty((len(x), o, *x.shape[2:]), dtype=x.dtype, memory_format=torch.channels_last)
    tiles, into = _tiles(x, 6), _tiles(result, 4)
    weights = (weights_to_points @ w.permute(2, 3, 1, 0).reshape(9, i * o)).view(36, i, o)
    for chunk in _chunks(tiles):
        points = to_points @ tiles[chunk].reshape(36, -1)
        products = torch.bmm(points.view(36, -1, i), weights)
        into[chunk].copy_((to_pixels @ products.view(36, -1)).view_as(into[chunk]))
    return result


def conv2d_weight(x: Tensor, g: Tensor) -> Tensor:
    """(B, I, H, W), (B, O, H, W) -> (O, I, 3, 3): the weights' gradient where g is that of `conv2d`'s result."""
    to_points, weights_to_points, to_pixels = _transforms()
    i, o = x.shape[1], g.shape[1]
    tiles, pixels = _tiles(x, 6), _tiles(g, 4)
    total = x.new_zeros(36, i, o)
    for chunk in _chunks(tiles):
        points = to_points @ tiles[chunk].reshape(36, -1)
        back = to_pixels.T @ pixels[chunk].reshape(16, -1)
        total.baddbmm_(points.view(36, -1, i).transpose(1, 2), back.view(36, -1, o))
    return (weights_to_points.T @ total.view(36, -1)).view(3, 3, i, o).permute(3, 2, 0, 1)


def _tiles(x: Tensor, side: int) -> Tensor:
    """Every fourth pixel's tile, (B, C, H, W) -> (side, side, B, H / 4, W / 4, C): a view, of x or of x padded."""
    n, c, height, width = x.shape
    x = x.permute(0, 2, 3, 1)
    if side > 4:
        x = F.pad(x, (0, 0, 1, 1, 1, 1))
    image, row, column, feature = x.stride()
    return x.as_strided((side, side, n, height // 4, width // 4, c), (row, column, image, 4 * row, 4 * column, feature))


def _chunks(tiles: Tensor) -> Iterator[tuple[slice, ...]]:
    """Indices of about `CHUNK` tiles each: whole images, or rows of tiles of one."""
    n, rows, columns = tiles.shape[2:5]
    images = max(1, CHUNK // (rows * columns))
    step = max(1, CHUNK // columns) if images == 1 else rows
    for k in range(0, n, images):
        for r in range(0, rows, step):
            yield slice(None), slice(None), slice(k, k + images), slice(r, r + step)
