"""NVlabs' stylegan2-ada-pytorch as a contender of `training_speed.py`, out of a checkout of the user's own.

Nothing of it lies here: its licence is non-commercial. It is called as it is, with the sizes, rates and schedule of
`GANDLConfig`, in float32, and its R1 term has the same factor gamma/2. What differs is its own:

* no Lipschitz term, so one penalty less than ours every `r1_every` iterations, which is in its favour;
* lazy penalties are optimiser steps of their own, with forward passes of their own;
* the layer before the logit is as wide as the smallest maps, where ours has `features`;
* `embed` gives logits: its discriminator has no other way out, and the one layer more costs next to nothing.

Its fast operations are CUDA kernels, compiled when first used. A CPU runs its fallback in plain PyTorch.
"""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor

from gandl_lib.methods.gandl import GANDLConfig


class StyleGAN2ADA:
    """`step` and `embed` as in the method seam.

    Args:
        config, channels: as for `GANDL`.
        folder: a checkout of NVlabs/stylegan2-ada-pytorch.
    """

    def __init__(self, config: GANDLConfig, channels: int, folder: Path, device: torch.device):
        sys.path.insert(0, str(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was written for a PyTorch of 2021
            from training.loss import StyleGAN2Loss
            from training.networks import Discriminator, Generator

        self.config, self.device, size = config, device, config.network
        widths = {"channel_base": size.width_base, "channel_max": size.width_max, "num_fp16_res": 0}
        images = {"img_resolution": size.resolution, "img_channels": channels, "c_dim": 0}
        mapping = {"num_layers": size.mapping_layers}
        stddev = {"mbstd_group_size": size.stddev_group}
        self.G = Generator(
            z_dim=size.latent, w_dim=size.latent, mapping_kwargs=mapping, synthesis_kwargs=widths, **images
        ).to(device)
        self.D = Discriminator(epilogue_kwargs=stddev, **widths, **images).to(device)
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.loss = StyleGAN2Loss(
            device,
            self.G.mapping,
            self.G.synthesis,
            self.D,
            style_mixing_prob=config.style_mixing,
            r1_gamma=config.gamma,
            pl_batch_shrink=2,
            pl_decay=config.path_decay,
            pl_weight=config.path_weight,
        )
        adam = {"lr": config.learning_rate, "betas": (0.0, config.beta2)}
        opt_g, opt_d = (torch.optim.Adam(part.parameters(), **adam) for part in (self.G, self.D))
        self.phases = (
            ("Gmain", self.G, opt_g, 1),
            ("Greg", self.G, opt_g, config.path_every),
            ("Dmain", self.D, opt_d, 1),
            ("Dreg", self.D, opt_d, config.r1_every),
        )

    def step(self, real: Tensor, n_seen: int) -> None:
        n, k = len(real), n_seen // self.config.batch
        no_class = torch.zeros(n, 0, device=self.device)
        for phase, part, optimiser, every in self.phases:
            if k % every:
                continue
            self.G.requires_grad_(part is self.G), self.D.requires_grad_(part is self.D)
            optimiser.zero_grad(set_to_none=True)
            z = torch.randn(n, self.config.network.latent, device=self.device)
            self.loss.accumulate_gradients(
                phase=phase, real_img=real, real_c=no_class, gen_z=z, gen_c=no_class, sync=True, gain=every
            )
            optimiser.step()

        keep = 0.5 ** (n / (self.config.ema_kimg * 1000))
        with torch.no_grad():
            for average, p in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
                average.lerp_(p, 1 - keep)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        return self.D(images, None)
