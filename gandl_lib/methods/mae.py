"""MAE: what has to be known of cells to draw the three quarters of an image that were hidden.

    loss = mean over hidden patches of |x - x'|^2

What a laboratory would train on its own screen today, where the paper of 2021 had only autoencoders to compare with.
No label is used. Pixels are compared as they are or, with `standardise`, each channel of each patch with mean zero and
variance one, which asks for texture where the plain loss asks for brightness.

References: He et al. 2022 (arXiv 2111.06377); Kraus et al. 2024 (arXiv 2404.10242), for cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from gandl_lib.methods.base import Method
from gandl_lib.nn.vit import MaskedAutoencoder, ViTConfig


@dataclass(frozen=True)
class MAEConfig:
    sizes: ViTConfig = field(default_factory=ViTConfig)
    batch: int = 64
    learning_rate: float = 5e-4
    warmup_images: int = 5000
    """Over so many images the rate rises from zero."""
    weight_decay: float = 0.05
    hidden: float = 0.75
    """Share of the patches that is not shown."""
    standardise: bool = True


PRESETS = {
    "small": MAEConfig(
        sizes=ViTConfig(64, 8, width=192, depth=6, heads=6, decoder_width=96, decoder_depth=2, decoder_heads=3)
    ),
    "base": MAEConfig(batch=256, learning_rate=3e-4, warmup_images=100_000),
    "tiny": MAEConfig(
        sizes=ViTConfig(16, 4, width=16, depth=1, heads=2, decoder_width=8, decoder_depth=1, decoder_heads=2),
        batch=8,
        warmup_images=32,
    ),
}
"""small: what a core trains in minutes. base: a ViT-S/16 on 256 pixels, for a GPU."""


class MAE(Method):
    """The method seam around a masked autoencoder."""

    presets = PRESETS
    training_only = ("network.narrow.", "network.unseen", "network.decoder.", "network.pixels.")

    def __init__(self, config: MAEConfig, channels: int):
        super().__init__(config, channels)
        self.batch, self.crop_px = config.batch, config.sizes.resolution
        self.network = MaskedAutoencoder(config.sizes, channels)

    @cached_property
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return {"network": torch.optim.AdamW(groups, self.config.learning_rate, betas=(0.9, 0.95))}

    def step(self, images: Tensor, n_seen: int) -> dict[str, Tensor]:
        """One step on images (B, C, R, R) in [-1, 1]."""
        n_patches = self.config.sizes.side**2
        n_visible = max(1, round((1 - self.config.hidden) * n_patches))
        order = torch.rand(len(images), n_patches, device=images.device).argsort(1)
        drawn = self.network(images, order[:, :n_visible])
        error = (drawn - self.targets(images)).square().mean(2)  # [BT]
        loss = error.gather(1, order[:, n_visible:]).mean()
        for group in self.optimisers["network"].param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, (n_seen + len(images)) / self.config.warmup_images)
        self.update("network", loss)
        return {"hidden_pixels": loss.detach()}

    def targets(self, images: Tensor) -> Tensor:
        """(B, C, R, R) -> (B, T, C p p): what is to be drawn."""
        patches = self.network.patchify(images)
        if not self.config.standardise:
            return patches
        by_channel = patches.unflatten(2, (self.channels, -1))
        spread, mean = torch.var_mean(by_channel, dim=3, keepdim=True)
        return ((by_channel - mean) / (spread + 1e-3).sqrt()).flatten(2)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, C, R, R) in [-1, 1] -> (B, width) float32."""
        return self.network.features(images).float()
