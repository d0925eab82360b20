"""Adversarial losses and gradient penalties, each under the name its paper gives it.

Logits are raw critic outputs of shape (B,). Every function returns a scalar tensor, a mean over the batch.

References:
    Goodfellow et al. 2014 (non-saturating loss); Salimans et al. 2016, sec. 3.4 (smoothed labels);
    Mao et al. 2016, eq. 9 (least squares); Gulrajani et al. 2017, eq. 3 (Wasserstein loss, two-sided penalty);
    Kingma and Welling 2013, app. B (divergence from a normal); Mescheder et al. 2018, eq. 9 (R1);
    Petzka et al. 2018, eq. 9 (WGAN-LP, the one-sided Lipschitz penalty); Karras et al. 2020, eq. 4 (path length);
    Khosla et al. 2020, eq. 2 (supervised contrastive loss; with pairs, NT-Xent of Chen et al. 2020).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gandl_lib.nn.convolution import only_images


def generator_nonsaturating(fake_logits: Tensor) -> Tensor:
    """-log D(G(z)): the generator's loss."""
    return F.softplus(-fake_logits).mean()


def discriminator_logistic(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))): the discriminator's loss."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def discriminator_smoothed(real_logits: Tensor, fake_logits: Tensor, labels: Tensor) -> Tensor:
    """-s log D(x) - (1 - s) log(1 - D(x)) - log(1 - D(G(z))): real images carry `labels` s (B,) below one."""
    return F.binary_cross_entropy_with_logits(real_logits, labels) + F.softplus(fake_logits).mean()


def least_squares(logits: Tensor, labels: Tensor | float) -> Tensor:
    """E (D - label)^2 / 2, the same for both players; `labels` is (B,) or one for all."""
    return (logits - labels).square().mean() / 2


def wasserstein(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E D(G(z)) - E D(x): the critic's loss, minus the distance that it sees."""
    return fake_logits.mean() - real_logits.mean()


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) in nats, both (B, Z): summed over z, averaged over the batch."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2


def input_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """d logits / d images, (B, C, H, W), itself differentiable. `images` must require grad and have led to `logits`."""
    with only_images(), torch.autocast(images.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient


def r1(gradient: Tensor) -> Tensor:
    """E ||grad D(x)||^2 at real images; weigh it with gamma / 2. `gradient` is (B, C, H, W)."""
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def lipschitz_one_sided(gradient: Tensor) -> Tensor:
    """E max(0, ||grad D(x^)|| - 1)^2 at mixes of real and fake: zero wherever the slope is below one."""
    slope = (gradient.square().sum(dim=(1, 2, 3)) + 1e-12).sqrt()
    return (slope - 1).clamp(min=0).square().mean()


def lipschitz_two_sided(gradient: Tensor) -> Tensor:
    """E (||grad D(x^)|| - 1)^2 at mixes of real and fake: zero where the slope is one."""
    slope = (gradient.square().sum(dim=(1, 2, 3)) + 1e-12).sqrt()
    return (slope - 1).square().mean()


def uniform_mix(real: Tensor, fake: Tensor) -> Tensor:
    """x^ = a real + (1 - a) fake with a ~ U(0, 1) per image."""
    a = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    return torch.lerp(fake.to(real.dtype), real, a)  # autocast leaves fakes in a lower precision


def path_lengths(images: Tensor, latents: Tensor) -> Tensor:
    """||J^T y|| for one random image direction y per sample, (B,).

    Args:
        images: (B, C, H, W), generated from `latents`.
        latents: (B, L, W), one style vector per layer; the norm is averaged over the L layers.
    """
    y = torch.randn_like(images) / (images.shape[2] * images.shape[3]) ** 0.5
    with only_images(), torch.autocast(images.device.type, enabled=False):
        (jacobian,) = torch.autograd.grad((images * y).sum(), latents, create_graph=True)
    return jacobian.float().square().sum(dim=2).mean(dim=1).sqrt()


def contrastive(z: Tensor, alike: Tensor, temperature: float) -> Tensor:
    """Mean over anchors i and those alike p of -log softmax_j(cos(z_i, z_j) / temperature)[p], j any other row.

    Args:
        z: (N, D) projections.
        alike: (N, N) bool, which rows each row is to be close to; the diagonal does not count. A row that is like no
            other is no anchor, and only there to be kept away from.
    """
    z = F.normalize(z.float(), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    alike = alike & ~itself
    log_p = (z @ z.T / temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
    n = alike.sum(dim=1)
    return -(log_p.masked_fill(~alike, 0).sum(dim=1) / n.clamp(min=1)).sum() / (n > 0).sum()
