"""CytoGAN: four generative models of single cells, and what they had to know of a cell to draw it.

    dcgan     D  -s log D(x) - (1 - s) log(1 - D(x)) - log(1 - D(G(z)))   G  -log D(G(z))
    lsgan     D  (D(x) - s)^2 / 2 + D(G(z))^2 / 2                         G  (D(G(z)) - 1)^2 / 2
    wgan-gp   D  D(G(z)) - D(x) + lambda (||grad D(x^)|| - 1)^2           G  -D(G(z))
    vae       |x - x'|^2 / 2  +  KL(q(z|x) || N(0, 1))                    sums over an image

with s ~ U(0.8, 1) for every real image, x^ a uniform mix of real and generated. One pair of networks (`nn/dcgan.py`)
serves all four: the VAE's encoder is the discriminator's trunk with the means and log variances of z on top, its
decoder the generator. The embedding is the layer before the discriminator's answer; the VAE's, the means.

An iteration of a GAN shows the discriminator one batch of real images and as many generated ones, then moves the
generator, which for wgan-gp is done every `critic_steps`-th iteration only. So all four see equally many images in
equally many iterations.

Adam throughout, with the rates of those who proposed each: 2e-4 and (0.5, 0.999) for dcgan and lsgan (Radford et al.
2015), 1e-4 and (0, 0.9) for wgan-gp (Gulrajani et al. 2017), 1e-3 and (0.9, 0.999) for the vae (Kingma and Ba 2014).

References: Goldsborough et al. 2017 (bioRxiv 227645); Mao et al. 2016 (arXiv 1611.04076); arXiv 1704.00028; Kingma and
Welling 2013 (arXiv 1312.6114). Published are the networks, the noise, the smoothing, lambda, the batch and 50 epochs;
optimisers, `critic_steps` and what the VAE takes a pixel's spread for (1, of a range of 2) are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from gandl_lib import losses
from gandl_lib.methods.base import Method
from gandl_lib.nn.convolution import without_fp16
from gandl_lib.nn.dcgan import DCGANConfig, Discriminator, Generator, Trunk


@dataclass(frozen=True)
class GANConfig:
    network: DCGANConfig = field(default_factory=DCGANConfig)
    batch: int = 64
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    input_noise: float = 0.1
    """Standard deviation of the noise on what the discriminator is shown."""
    smoothing: float = 0.8
    """Labels of real images are drawn between this and 1."""

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON brings a list back


@dataclass(frozen=True)
class WGANConfig:
    network: DCGANConfig = field(default_factory=DCGANConfig)
    batch: int = 64
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.0, 0.9)
    input_noise: float = 0.1
    penalty: float = 10.0
    """lambda."""
    critic_steps: int = 5
    """Iterations of the critic for each of the generator."""

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(self.betas))


@dataclass(frozen=True)
class VAEConfig:
    network: DCGANConfig = field(default_factory=DCGANConfig)
    batch: int = 64
    learning_rate: float = 1e-3


SMALL = DCGANConfig(crop_px=48, widths=(8, 16, 32, 64))
TINY = DCGANConfig(crop_px=24, widths=(4, 4, 8, 8), latent=8, features=8)


def presets(paper: GANConfig | WGANConfig | VAEConfig, **small) -> dict:
    """small: crops half as wide, a quarter of the maps, and small batches, for the steps are few that a core takes in a
    minute; besides, what a method cannot do without in so few. tiny: for tests."""
    return {
        "small": replace(paper, network=SMALL, batch=16, **small),
        "paper": paper,
        "tiny": replace(paper, network=TINY, batch=8),
    }


class CytoGAN(Method):
    """Generator and discriminator behind the method seam; subclasses say what the two are told."""

    critic_steps = 1
    """Iterations of the discriminator for each of the generator."""

    def __init__(self, config: GANConfig | WGANConfig, channels: int):
        super().__init__(config, channels)
        self.batch, self.crop_px, self.latent = config.batch, config.network.crop_px, config.network.latent
        self.generator = Generator(config.network, channels).to(memory_format=torch.channels_last)
        self.discriminator = Discriminator(config.network, channels, config.input_noise).to(
            memory_format=torch.channels_last
        )

    @cached_property
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            name: torch.optim.Adam(part.parameters(), self.config.learning_rate, self.config.betas, fused=True)
            for name, part in (("generator", self.generator), ("discriminator", self.discriminator))
        }

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Its terms, to be added up."""
        raise NotImplementedError

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        raise NotImplementedError

    def step(self, images: Tensor, n_seen: int) -> dict[str, Tensor]:
        """One iteration on real `images` (B, C, R, R) in [-1, 1]; `n_seen` is the number of images seen before it."""
        generator_too = (n_seen // self.batch + 1) % self.critic_steps == 0
        with torch.set_grad_enabled(generator_too):
            fake = self.generator(torch.randn(len(images), self.config.network.latent, device=images.device))
        self.discriminator.requires_grad_(True)
        terms = self.discriminator_loss(images, fake.detach())
        self.update("discriminator", sum(terms.values()))
        if generator_too:
            self.discriminator.requires_grad_(False)
            terms["loss_g"] = self.generator_loss(self.discriminator(fake))
            self.update("generator", terms["loss_g"])
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, C, R, R) in [-1, 1] -> (B, features) float32."""
        return self.discriminator.features(images).float()

    def sample(self, z: Tensor) -> Tensor:
        """(B, Z) -> (B, C, R, R), each image a function of its own z."""
        return drawn(self.generator, z)


class DCGAN(CytoGAN):
    presets = presets(GANConfig())

    def labels(self, real: Tensor) -> Tensor:
        """(B,), smoothed: drawn between `config.smoothing` and 1."""
        return torch.empty(len(real), device=real.device).uniform_(self.config.smoothing, 1)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        D = self.discriminator
        return {"loss_d": losses.discriminator_smoothed(D(real), D(fake), self.labels(real))}

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        return losses.generator_nonsaturating(fake_logits)


class RandomDCGAN(DCGAN):
    """The same discriminator before its first step: what five-by-five convolutions alone see."""

    trainable = False


class LSGAN(DCGAN):
    def discriminator_loss(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        D = self.discriminator
        return {"loss_d": losses.least_squares(D(real), self.labels(real)) + losses.least_squares(D(fake), 0.0)}

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        return losses.least_squares(fake_logits, 1.0)


class WGANGP(CytoGAN):
    presets = presets(WGANConfig(), learning_rate=5e-4, critic_steps=2)

    @property
    def critic_steps(self) -> int:
        return self.config.critic_steps

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        D = self.discriminator
        mix = losses.uniform_mix(real, fake).requires_grad_(True)
        distance = losses.wasserstein(D(real), D(fake))
        with without_fp16(mix):
            slope = losses.lipschitz_two_sided(losses.input_gradient(D(mix), mix))
        return {"loss_d": distance, "penalty": self.config.penalty * slope}

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()


class Encoder(nn.Module):
    """(B, C, R, R) -> means and log variances of z, (B, latent) each."""

    def __init__(self, config: DCGANConfig, channels: int):
        super().__init__()
        self.trunk = Trunk(config, channels)
        self.dense = nn.Linear(self.trunk.width, 2 * config.latent)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.dense(self.trunk(images)).chunk(2, dim=1)


class VAE(Method):
    """The method seam around encoder and generator."""

    presets = presets(VAEConfig())

    def __init__(self, config: VAEConfig, channels: int):
        super().__init__(config, channels)
        self.batch, self.crop_px, self.latent = config.batch, config.network.crop_px, config.network.latent
        self.encoder = Encoder(config.network, channels).to(memory_format=torch.channels_last)
        self.generator = Generator(config.network, channels).to(memory_format=torch.channels_last)

    @cached_property
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"autoencoder": torch.optim.Adam(self.parameters(), self.config.learning_rate, fused=True)}

    def step(self, images: Tensor, n_seen: int) -> dict[str, Tensor]:
        """One step on images (B, C, R, R) in [-1, 1]."""
        mean, log_variance = self.encoder(images)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        squares = (self.generator(z) - images).square().sum(dim=(1, 2, 3)).mean()
        terms = {"drawing": squares / 2, "kl": losses.kl_to_normal(mean, log_variance)}
        self.update("autoencoder", sum(terms.values()))
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(B, C, R, R) in [-1, 1] -> (B, latent) float32, the means."""
        return self.encoder(images)[0].float()

    def sample(self, z: Tensor) -> Tensor:
        """(B, Z) -> (B, C, R, R), each image a function of its own z."""
        return drawn(self.generator, z)


@torch.no_grad()
def drawn(generator: Generator, z: Tensor) -> Tensor:
    """Images by the running statistics of batch norm, which stay as they are even in training."""
    was_training = generator.training
    images = generator.eval()(z)
    generator.train(was_training)
    return images
