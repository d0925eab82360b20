"""What a trained generator makes, and how near it comes to the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from gandl_book.generation import quality
from gandl_lib.embed import open_method
from gandl_lib.nn.small_cnn import SmallCNN
from gandl_lib.shards import Shards
from gandl_lib.views import TrainingCrops

HEADER = ("what", "images", "fid", "kid", "kid_sd", "precision", "recall")


@torch.no_grad()
def sample(method: nn.Module, n: int, seed: int = 0, batch: int = 64) -> Tensor:
    """(n, C, R, R) images from the averaged generator of `method`, in about [-1, 1]."""
    device = next(method.parameters()).device
    torch.manual_seed(seed)
    z = torch.randn(n, method.config.network.latent)
    return torch.cat([method.sample(part.to(device)).cpu() for part in z.split(batch)])


@torch.no_grad()
def between(method: nn.Module, pairs: int, steps: int, seed: int = 0) -> Tensor:
    """(pairs, steps, C, R, R): images on straight lines between styles w of pairs of random latents."""
    generator = method.generator_ema
    torch.manual_seed(seed)
    ends = generator.mapping(torch.randn(2 * pairs, method.config.network.latent)).reshape(2, pairs, 1, -1)
    w = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, steps)[:, None])  # [pairs, steps, W]
    torch.manual_seed(seed)  # the same noise in every image, so that only w moves
    images = [generator.synthesis(one[None, None].expand(1, generator.n_layers, -1)) for one in w.flatten(0, 1)]
    return method.show(torch.cat(images)).unflatten(0, (pairs, steps))


def compare(sources: Sequence[str | Path], shards: Shards, n: int = 2000, seed: int = 0) -> pd.DataFrame:
    """FID, KID, precision and recall of generators, between the two rows that say what they mean.

    The first row compares real crops with other real crops, the last with an untrained generator's images. Features are
    those of a `SmallCNN` with random weights, which has seen no image: the numbers compare within this table and with
    no other.

    Args:
        sources: run folders or weights files of methods that can `sample`.
        shards: the screen whose crops are the real images.
        n: images a side.

    Returns:
        Table with the columns `HEADER`.
    """
    torch.manual_seed(seed)
    judge = SmallCNN(len(shards.channels), 2).eval()

    @torch.no_grad()
    def features(images: Tensor):
        return torch.cat([judge.features(part) for part in images.split(64)]).numpy()

    rows = []
    for source in sources:
        method, header = open_method(str(source), shards.channels)
        if not rows:
            crops = TrainingCrops(shards, method.crop_px, seed)
            real = features(crops.batch(0, n))
            rows.append({"what": "other real crops", **quality(real, features(crops.batch(n, n)), seed)})
            torch.manual_seed(seed)
            untrained = type(method)(method.config, len(shards.channels)).eval()
        what = f"{header['method']} after {header['n_seen']} images"
        rows.append({"what": what, **quality(real, features(sample(method, n, seed)))})
    rows.append({"what": "untrained generator", **quality(real, features(sample(untrained, n, seed)))})
    return pd.DataFrame(rows).assign(images=n)[list(HEADER)]
