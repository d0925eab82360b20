"""GAN-DL: the discriminator of an unconditional StyleGAN2 as a learner of representations.

One iteration (Mascolini et al. 2022, on Karras et al. 2020):

    discriminator   -log D(x) - log(1 - D(G(z)))  +  gamma/2 R1(x)  +  lambda LP(mix of x and G(z))
    generator       -log D(G(z))  +  weight E(||J^T y|| - a)^2, a the running mean path length

Penalties are lazy: computed every k-th iteration and weighed k times there. A penalty joins the loss of its iteration
and shares its forward pass, so Adam takes one step an iteration and its rates need no correction.

`GANDLConfig` holds what the paper states; what it leaves open has StyleGAN2's published default. Chapter 02 says which
is which.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from gandl_lib import losses
from gandl_lib.augment import AdaptiveAugment
from gandl_lib.methods.base import Method
from gandl_lib.nn.convolution import without_fp16
from gandl_lib.nn.layers import adam_groups, stddev_group
from gandl_lib.nn.stylegan2 import TAPS, Discriminator, Generator, StyleGAN2Config
from gandl_lib.views import lift, unlift


@dataclass(frozen=True)
class GANDLConfig:
    network: StyleGAN2Config = field(default_factory=StyleGAN2Config)
    batch: int = 32
    learning_rate: float = 1e-4
    beta2: float = 0.99
    r1_gamma: float | None = None
    """None: 0.0002 resolution^2 / batch, the field's heuristic."""
    r1_every: int = 16
    lipschitz_weight: float = 1.0
    path_weight: float = 2.0
    path_decay: float = 0.01
    path_every: int = 4
    style_mixing: float = 0.9
    ema_kimg: float = 10.0
    """Half-life of the generator's average, in thousands of images."""
    ema_rampup: float = 0.05
    """The half-life is at most this fraction of the images seen."""
    arcsinh: float | None = None
    """Both networks see dim details brighter by this strength of `views.lift`; None: grey values as they are."""
    ada_target: float | None = None
    """Mean sign of real logits that adaptive augmentation aims at, 0.6 as published; None: no augmentation."""
    ada_kimg: float = 500.0
    """Thousands of images in which the chance of an augmentation can go from 0 to 1."""
    share_fakes: bool = False
    """Show the discriminator the very fakes the generator then learns from: one generator pass less."""
    tap: str = "penultimate"
    """What `embed` reads: see `Discriminator.features`."""

    def __post_init__(self):
        if self.tap not in TAPS:
            raise ValueError(f"tap must be one of {', '.join(TAPS)}; found {self.tap!r}.")
        if self.arcsinh is not None and not self.arcsinh > 0:
            raise ValueError(f"arcsinh must be above 0, or None for grey values as they are; found {self.arcsinh}.")

    @property
    def gamma(self) -> float:
        return 0.0002 * self.network.resolution**2 / self.batch if self.r1_gamma is None else self.r1_gamma


PAPER = GANDLConfig(network=StyleGAN2Config(resolution=256, width_base=16384))
SMALL = GANDLConfig(batch=32, learning_rate=2e-3, share_fakes=True)
"""What two CPU cores can train in minutes: StyleGAN2's own rate, twenty times the paper's."""

PRESETS = {
    "quick32": replace(SMALL, network=StyleGAN2Config(resolution=32, width_base=512, width_max=128, head="pool")),
    "quick64": replace(
        SMALL, network=StyleGAN2Config(resolution=64, width_base=1024, width_max=128, head="pool"), batch=16
    ),
    "cell48": replace(SMALL, network=StyleGAN2Config(resolution=48, width_base=384, width_max=64), batch=16),
    "cell96": replace(PAPER, network=StyleGAN2Config(resolution=96, width_base=8192, width_max=256)),
    "gpu128": replace(PAPER, network=StyleGAN2Config(resolution=128, width_base=16384, width_max=256)),
    "paper": PAPER,
    "tiny": replace(SMALL, network=StyleGAN2Config(resolution=32, width_base=256, width_max=32, latent=64), batch=8),
    "tiny24": replace(SMALL, network=StyleGAN2Config(resolution=24, width_base=96, width_max=16, latent=16), batch=8),
}
"""quick32, the default: crops of a cell or a few, many of them a site, and a head that averages over positions.
quick64: the same for several cells, or larger ones; a third as many crops a second. cell48, cell96: one cell, as
CytoGAN sees it; the former as wide as its small networks. paper: what Mascolini et al. state, and StyleGAN2's defaults
where they do not. tiny, tiny24: for tests."""


class GANDL(Method):
    """The method seam around both networks.

    Args:
        config: sizes and weights.
        channels: C of the images.
    """

    presets, taps = PRESETS, TAPS
    training_only = ("generator.", "augment.")
    """The generator's average, `generator_ema`, stays: it draws the samples."""

    def __init__(self, config: GANDLConfig, channels: int):
        super().__init__(config, channels)
        self.generator = Generator(config.network, channels).to(memory_format=torch.channels_last)
        self.discriminator = self.make_discriminator().to(memory_format=torch.channels_last)
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.augment = AdaptiveAugment(config.ada_target, config.ada_kimg) if config.ada_target else nn.Identity()
        self.register_buffer("mean_path_length", torch.zeros(()))

    def make_discriminator(self) -> Discriminator:
        return Discriminator(self.config.network, self.channels)

    @cached_property
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        c, adam = self.config, torch.optim.Adam
        return {
            name: adam(adam_groups(part, c.learning_rate), betas=(0.0, c.beta2), fused=True)
            for name, part in (("generator", self.generator), ("discriminator", self.discriminator))
        }

    @property
    def crop_px(self) -> int:
        return self.config.network.resolution

    @property
    def batch(self) -> int:
        return self.config.batch

    @property
    def together(self) -> int | None:
        """Groups of the minibatch statistic; and half of the images, which the path penalty takes, must be whole.

        What adaptive augmentation draws cannot be shared out: it has not the images as its first axis.
        """
        if self.config.ada_target:
            return None
        group = stddev_group(self.config.batch, self.config.network.stddev_group)
        return math.lcm(group, 2) if self.config.path_weight > 0 else group

    @property
    def latent(self) -> int:
        return self.config.network.latent

    def step(self, images: Tensor, n_seen: int) -> dict[str, float]:
        """One iteration on real `images` (B, C, R, R); `n_seen` is the number of images seen before it.

        Where several processes share a batch, `images` are this one's part of the `config.batch`. Returns losses,
        penalties and mean logits, unweighted, for the log.
        """
        iteration, images = n_seen // self.config.batch, self.see(images)
        fake = self._fakes(len(images))
        terms = self._step_discriminator(images, fake.detach(), iteration)
        if not self.config.share_fakes:
            fake = self._fakes(len(images))
        terms |= self._step_generator(fake, iteration)
        self._average(n_seen + self.config.batch, self.config.batch)
        return {name: value.detach() for name, value in terms.items()}

    def _fakes(self, n: int) -> Tensor:
        z = torch.randn(n, self.config.network.latent, device=self.mean_path_length.device)
        return self.generator.synthesis(self.generator.styles(z, self.config.style_mixing))

    def _step_discriminator(self, real: Tensor, fake: Tensor, iteration: int) -> dict[str, Tensor]:
        c, D = self.config, self.discriminator.requires_grad_(True)
        lazy = iteration % c.r1_every == 0
        # R1 is taken where the discriminator looks, behind the augmentation: its sampling has no second derivative.
        real = self.augment(real).detach().requires_grad_(lazy)
        fake = self.augment(fake)
        with without_fp16(real, lazy):
            real_logits, fake_logits = D(real, real=True), D(fake)
        if c.ada_target:
            self.augment.follow(real_logits.detach(), c.batch)
        loss = losses.discriminator_logistic(real_logits, fake_logits)
        terms = {"loss_d": loss, "logit_real": real_logits.mean(), "logit_fake": fake_logits.mean()}
        if lazy:
            terms["r1"] = losses.r1(losses.input_gradient(real_logits, real))
            loss = loss + c.r1_every * c.gamma / 2 * terms["r1"]
            if c.lipschitz_weight > 0:
                mix = losses.uniform_mix(real.detach(), fake).requires_grad_(True)
                with without_fp16(mix):
                    mix_logits = D(mix)
                terms["lipschitz"] = losses.lipschitz_one_sided(losses.input_gradient(mix_logits, mix))
                loss = loss + c.r1_every * c.lipschitz_weight * terms["lipschitz"]
        self.update("discriminator", loss)
        return terms

    def _step_generator(self, fake: Tensor, iteration: int) -> dict[str, Tensor]:
        c, G = self.config, self.generator
        self.discriminator.requires_grad_(False)
        loss = losses.generator_nonsaturating(self.discriminator(self.augment(fake)))
        terms = {"loss_g": loss}
        if c.path_weight > 0 and iteration % c.path_every == 0:
            z = torch.randn(max(1, len(fake) // 2), c.network.latent, device=fake.device)
            with without_fp16(z):
                w = G.styles(z, c.style_mixing)
                lengths = losses.path_lengths(G.synthesis(w), w)
            mean = torch.lerp(self.mean_path_length, self.mean_of_processes(lengths.detach().mean()), c.path_decay)
            self.mean_path_length.copy_(mean)
            terms["path_length"] = mean
            loss = loss + c.path_every * c.path_weight * (lengths - mean).square().mean()
        self.update("generator", loss)
        return terms

    @torch.no_grad()
    def _average(self, n_seen: int, n_new: int) -> None:
        half_life = min(self.config.ema_kimg * 1000, n_seen * self.config.ema_rampup)
        keep = 0.5 ** (n_new / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.generator_ema.parameters()), list(self.generator.parameters()), 1 - keep)
        for average, buffer in zip(self.generator_ema.buffers(), self.generator.buffers(), strict=True):
            average.copy_(buffer)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, C, R, R) in [-1, 1] -> (B, D) float32, each row a function of its own image."""
        (features,) = self.embed_taps(images, [None])
        return features

    @torch.no_grad()
    def embed_taps(self, images: Tensor, taps: Sequence[str | None]) -> list[Tensor]:
        """`embed` at several taps in one pass; None for the configuration's own."""
        maps = self.discriminator.maps(self.see(images))
        return [self.discriminator.read(maps, tap or self.config.tap).float() for tap in taps]

    @torch.no_grad()
    def sample(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """(B, Z) -> (B, C, R, R) from the averaged generator."""
        return self.show(self.generator_ema(z, truncation))

    def see(self, images: Tensor) -> Tensor:
        """Images of the screen as both networks see them."""
        return lift(images, self.config.arcsinh) if self.config.arcsinh else images

    def show(self, images: Tensor) -> Tensor:
        """The generator's images as those of the screen."""
        return unlift(images, self.config.arcsinh) if self.config.arcsinh else images


class RandomGANDL(GANDL):
    """The same discriminator before its first step: what the architecture alone sees."""

    trainable = False
