"""From stored integers to network input: (..., C, H, W) float32 in [-1, 1], square crops, the eight ways to lay them.

A field of cells has no up and no handedness, so the eight symmetries of the square (four right-angle turns, each with
or without a flip) are one image seen eight ways: drawn at random in training, averaged over at test time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from gandl_lib.shards import Shards


def scale(images: Tensor | np.ndarray, limits: Tensor | np.ndarray) -> Tensor:
    """Grey values to [-1, 1]: x -> 2 clip((x - low) / (high - low), 0, 1) - 1, channel by channel.

    Args:
        images: (..., C, H, W), any integer or float type.
        limits: (C, 2), the grey values that become -1 and 1.

    Returns:
        (..., C, H, W) float32 on the device of `images`.
    """
    images = torch.as_tensor(images)
    low, high = _limits(limits, images)
    return ((images.float() - low) / (high - low)).clamp_(0, 1).mul_(2).sub_(1)


def lift(images: Tensor, strength: float) -> Tensor:
    """Dim details made brighter: v -> arcsinh(strength v) / arcsinh(strength), v in [0, 1] being [-1, 1] here."""
    return torch.asinh((images + 1) * (strength / 2)).mul_(2 / math.asinh(strength)).sub_(1)


def unlift(images: Tensor, strength: float) -> Tensor:
    """The inverse of `lift`."""
    return torch.sinh((images + 1) * (math.asinh(strength) / 2)).mul_(2 / strength).sub_(1)


def crop_grid(images: Tensor, size: int, per_side: int) -> Tensor:
    """Evenly spaced square crops, flush with the edges; they leave nothing out if `per_side * size` >= H and W.

    Args:
        images: (N, C, H, W).
        size: side S of a crop in pixels.
        per_side: crops along each side; 1 is the centre alone.

    Returns:
        (N * per_side**2, C, S, S): the crops of the first image row by row, then those of the second.

    Raises:
        ValueError: when a crop is larger than the image.
    """
    n, c, height, width = images.shape
    _check_size(size, height, width)
    if per_side < 1:
        raise ValueError(f"per_side must be at least 1; got {per_side}.")
    crops = [
        images[:, :, y : y + size, x : x + size]
        for y in _offsets(height - size, per_side)
        for x in _offsets(width - size, per_side)
    ]
    return torch.stack(crops, dim=1).reshape(n * per_side**2, c, size, size)  # [NPCSS] -> [(NP)CSS]


def turn(images: Tensor, element: int) -> Tensor:
    """Lay square images (..., S, S) in one of eight ways: `element % 4` right-angle turns, then a flip from 4 on."""
    images = images.rot90(element % 4, (-2, -1))
    return images.flip(-1) if element >= 4 else images


def lay(crops: Tensor, per_side: int, ways: int) -> Tensor:
    """Crops of `crop_grid`, each in `ways` of the eight ways it can lie.

    Which of them goes by the diagonals of the grid: crops that overlap differ, and the image as a whole is seen in all
    eight. With one way a crop stays as it lies.

    Args:
        crops: (N per_side^2, C, S, S).
        ways: 1, 2 (of one turn, and its mirror image), 4 or 8 (all).

    Returns:
        (N per_side^2 ways, C, S, S), those of the first crop, then those of the second.
    """
    if ways not in (1, 2, 4, 8):
        raise ValueError(f"ways must be 1, 2, 4 or 8; found {ways}.")
    if ways == 1:
        return crops
    places = crops.unflatten(0, (-1, per_side**2)).unbind(1)  # of each crop in the grid: [NCSS]
    laid = [
        turn(place, (k % per_side - k // per_side + j * 8 // ways) % 8)
        for k, place in enumerate(places)
        for j in range(ways)
    ]
    return torch.stack(laid, dim=1).flatten(0, 1)


def resized_crops(images: Tensor, share: tuple[float, float]) -> Tensor:
    """A square window of each image (B, C, S, S), its side and place drawn at random, brought back to S x S.

    Args:
        share: least and largest side of the window as a fraction of S; both 1 give the images as they are.
    """
    side = torch.empty(len(images), device=images.device).uniform_(*share)
    place = (1 - side)[:, None] * torch.empty(len(images), 2, device=images.device).uniform_(-1, 1)  # [B2]
    theta = torch.cat([torch.diag_embed(side[:, None].expand(-1, 2)), place[:, :, None]], dim=2)  # [B23]
    grid = F.affine_grid(theta, list(images.shape), align_corners=False).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def random_flips(images: Tensor, chance: float = 0.5) -> Tensor:
    """(B, C, H, W), each image mirrored left to right with this chance."""
    flipped = torch.rand(len(images), 1, 1, 1, device=images.device) < chance
    return torch.where(flipped, images.flip(-1), images)


def random_turns(images: Tensor) -> Tensor:
    """(B, C, S, S), each image laid in one of the eight ways at random."""
    for lay in (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT):
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        images = torch.where(chosen, lay(images), images)
    return images


def random_blur(images: Tensor, sigma_px: tuple[float, float] = (0.1, 1.5), chance: float = 0.5) -> Tensor:
    """(B, C, H, W), each image with this chance blurred by a Gaussian of its own, cut off at three of the largest."""
    b, c, _, _ = images.shape
    reach = int(np.ceil(3 * sigma_px[1]))
    sigma = torch.empty(b, 1, device=images.device).uniform_(*sigma_px)
    x = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-x.square() / (2 * sigma.square()), dim=1)  # [BK], sums to 1
    sharp = torch.rand(b, 1, device=images.device) >= chance
    kernel = torch.where(sharp, (x == 0).to(kernel.dtype), kernel)
    kernel = kernel.repeat_interleave(c, dim=0)[:, None]  # [(BC)1K]
    seen = F.pad(images, [reach] * 4, mode="replicate").reshape(1, b * c, *(n + 2 * reach for n in images.shape[2:]))
    seen = F.conv2d(seen, kernel[:, :, None], groups=b * c)
    return F.conv2d(seen, kernel[:, :, :, None], groups=b * c).reshape(images.shape)


def random_intensity(images: Tensor, log2_gain_sd: float = 0.2, offset_sd: float = 0.1, chance: float = 1.0) -> Tensor:
    """(B, C, H, W) in about [-1, 1], each channel of each image with this chance brighter or darker on its own.

    A channel is multiplied by 2^a counted from black, which is -1, a ~ N(0, `log2_gain_sd`^2), and moved by
    b ~ N(0, `offset_sd`^2). Fluorescence has no colours to turn into one another: each channel is a stain of its own.
    """
    b, c = images.shape[:2]
    a, move = torch.randn(2, b, c, 1, 1, device=images.device, dtype=images.dtype)
    changed = torch.rand(b, c, 1, 1, device=images.device) < chance
    gain = torch.where(changed, 2 ** (log2_gain_sd * a), 1)
    return (images + 1) * gain - 1 + torch.where(changed, offset_sd * move, 0)


class TrainingCrops:
    """An endless, reproducible stream of random crops: image k is a function of (seed, k) and nothing else.

    Every epoch shows every site once, in an order of its own. Whoever has seen n images resumes by asking for image n.

    Args:
        shards: where the images are; read with `shards.read_crop`, scaled by `shards.limits`.
        size: side S of the crops in pixels.
        seed: at least 0.
        rotate: lay each crop in one of the eight ways at random.
        sites: (N,) boolean, the sites to show; None for all.
        limits: (C, 2) grey values instead of the screen's own.

    Raises:
        ValueError: when a crop is larger than the images, or no site is left.
    """

    def __init__(
        self,
        shards: Shards,
        size: int,
        seed: int,
        rotate: bool = True,
        sites: np.ndarray | None = None,
        limits: np.ndarray | None = None,
    ) -> None:
        _check_size(size, *shards.shape[1:])
        mask = np.ones(len(shards), bool) if sites is None else np.asarray(sites)
        if mask.dtype != bool or mask.shape != (len(shards),):
            raise ValueError(f"sites must be {len(shards)} booleans; got {mask.dtype} of shape {mask.shape}.")
        if not mask.any():
            raise ValueError("sites leaves no site to train on.")
        self.shards, self.size, self.seed, self.rotate = shards, size, seed, rotate
        self.sites = np.flatnonzero(mask)
        self.limits = shards.limits if limits is None else limits

    def __len__(self) -> int:
        """Images in an epoch."""
        return len(self.sites)

    def site(self, k: int) -> int:
        """Index of the site that image k shows."""
        epoch, position = divmod(k, len(self.sites))
        return int(self.sites[_order(self.seed, epoch, len(self.sites))[position]])

    def image(self, k: int) -> Tensor:
        """Image k: (C, S, S) float32 in [-1, 1]."""
        _, height, width = self.shards.shape
        random = np.random.default_rng((self.seed, 1, k))
        y, x = random.integers(height - self.size + 1), random.integers(width - self.size + 1)
        element = int(random.integers(8))
        image = scale(self.shards.read_crop(self.site(k), int(y), int(x), self.size), self.limits)
        return turn(image, element) if self.rotate else image

    def batch(self, n_seen: int, size: int) -> Tensor:
        """Images n_seen to n_seen + size - 1: (size, C, S, S) float32 in [-1, 1]."""
        return torch.stack([self.image(k) for k in range(n_seen, n_seen + size)])

    def batches(
        self, n_seen: int, batch_size: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Tensor]:
        """Batch after batch without end, from image `n_seen` on, the next ones being made meanwhile.

        The number of worker threads alters the speed only; 0 is one thread that stays one batch ahead. Threads will
        do: reading and unpacking let go of Python's lock. Where `world` processes share each batch, number `rank` gets
        its share of neighbours, batch_size / world images.
        """
        share = batch_size // world
        first = n_seen + rank * share
        pool = ThreadPoolExecutor(max(workers, 1))
        try:
            ahead = deque(pool.submit(self.batch, first + i * batch_size, share) for i in range(workers + 1))
            n_next = first + len(ahead) * batch_size
            while True:
                batch = ahead.popleft().result()
                ahead.append(pool.submit(self.batch, n_next, share))
                n_next += batch_size
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(n)


def _offsets(room: int, n: int) -> list[int]:
    """n evenly spaced positions from 0 to `room`; the middle one for n = 1."""
    return [room // 2] if n == 1 else [round(i * room / (n - 1)) for i in range(n)]


def _limits(limits: Tensor | np.ndarray, images: Tensor) -> tuple[Tensor, Tensor]:
    limits = torch.as_tensor(limits, dtype=torch.float32, device=images.device)
    if limits.shape != (images.shape[-3], 2):
        raise ValueError(f"limits must be (C, 2), here ({images.shape[-3]}, 2); got {tuple(limits.shape)}.")
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]  # [C11]
    return low, high


def _check_size(size: int, height: int, width: int) -> None:
    if not 1 <= size <= min(height, width):
        raise ValueError(f"crops of {size} pixels do not fit in images of {height}x{width}.")
