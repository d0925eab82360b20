"""StyleGAN2 for C channels in plain PyTorch, as one writes it with the paper open and nothing else in mind.

The yardstick of `training_speed.py`: the same mathematics, sizes and schedule as `gandl_lib`, with the choices that
most public implementations make: unit-variance weights multiplied at every use, activations scaled by sqrt(2) where
they arise, resampling as pad + depthwise convolution, NCHW memory, penalties with forward passes of their own, and
fresh fakes for the generator's step. Modulation already scales activations, not weights: per-sample weights in a
grouped convolution are slower still on a CPU, and a strawman measures nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gandl_lib import losses
from gandl_lib.methods.gandl import GANDLConfig


class Weight(nn.Module):
    """A unit-variance weight with its equalised-rate multiplier."""

    def __init__(self, *shape: int, lr_multiplier: float = 1.0):
        super().__init__()
        self.v = nn.Parameter(torch.randn(shape) / lr_multiplier)
        self.gain = lr_multiplier / torch.Size(shape[1:]).numel() ** 0.5

    def forward(self) -> Tensor:
        return self.v * self.gain


class Dense(nn.Module):
    def __init__(self, i: int, o: int, lr_multiplier: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight, self.lr_multiplier = Weight(o, i, lr_multiplier=lr_multiplier), lr_multiplier
        self.bias = nn.Parameter(torch.full((o,), bias / lr_multiplier))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight(), self.bias * self.lr_multiplier)


def act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * 2**0.5


class Filter(nn.Module):
    """Pad, optionally spread, filter with [1, 3, 3, 1], optionally keep every second pixel."""

    def __init__(self, up: int = 1, down: int = 1, pad: tuple[int, int] = (2, 1), gain: float = 1.0):
        super().__init__()
        f = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("f", gain * torch.outer(f, f) / 64)
        self.up, self.down, self.pad = up, down, pad

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        if self.up > 1:
            x = x.reshape(b, c, h, 1, w, 1)
            x = F.pad(x, [0, self.up - 1, 0, 0, 0, self.up - 1]).reshape(b, c, h * self.up, w * self.up)
        x = F.pad(x, [*self.pad, *self.pad])
        return F.conv2d(x, self.f.expand(c, 1, 4, 4), stride=self.down, groups=c)


class ModulatedConv(nn.Module):
    def __init__(self, i: int, o: int, k: int, latent: int, up: bool = False, demodulate: bool = True):
        super().__init__()
        self.weight, self.affine = Weight(o, i, k, k), Dense(latent, i, bias=1.0)
        self.up, self.demodulate, self.k = up, demodulate, k
        self.filter = Filter(pad=(1, 1), gain=4.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        s, weight = self.affine(w), self.weight()
        x = x * s[:, :, None, None]
        if self.up:
            x = self.filter(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            x = F.conv2d(x, weight, padding=self.k // 2)
        if self.demodulate:
            d = (weight[None] * s[:, None, :, None, None]).square().sum(dim=(2, 3, 4)).add(1e-8).rsqrt()
            x = x * d[:, :, None, None]
        return x


class StyledLayer(nn.Module):
    def __init__(self, i: int, o: int, latent: int, up: bool = False):
        super().__init__()
        self.conv = ModulatedConv(i, o, 3, latent, up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(o))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = self.conv(x, w)
        x = x + torch.randn(len(x), 1, *x.shape[2:], device=x.device) * self.noise_strength
        return act(x + self.bias[:, None, None])


class Generator(nn.Module):
    def __init__(self, config, channels: int):
        super().__init__()
        width, z = config.width, config.latent
        self.mapping = nn.ModuleList(Dense(z, z, lr_multiplier=0.01) for _ in range(config.mapping_layers))
        self.constant = nn.Parameter(torch.randn(1, width(4), 4, 4))
        self.convs = nn.ModuleList([StyledLayer(width(4), width(4), z)])
        self.to_image = nn.ModuleList([ModulatedConv(width(4), channels, 1, z, demodulate=False)])
        for r in config.resolutions[1:]:
            self.convs += [StyledLayer(width(r // 2), width(r), z, up=True), StyledLayer(width(r), width(r), z)]
            self.to_image.append(ModulatedConv(width(r), channels, 1, z, demodulate=False))
        self.image_bias = nn.ParameterList(torch.zeros(channels, 1, 1) for _ in self.to_image)
        self.upsample = Filter(up=2, gain=4.0)
        self.n_layers = len(self.convs) + 1

    def styles(self, z: Tensor, mixing: float) -> Tensor:
        def mapped(z: Tensor) -> Tensor:
            z = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
            for layer in self.mapping:
                z = act(layer(z))
            return z

        w = mapped(z)[:, None].repeat(1, self.n_layers, 1)
        other = mapped(torch.randn_like(z))
        for k in range(len(z)):
            if torch.rand(()) < mixing:
                w[k, int(torch.randint(1, self.n_layers, ())) :] = other[k]
        return w

    def synthesis(self, w: Tensor) -> Tensor:
        x = self.convs[0](self.constant.repeat(len(w), 1, 1, 1), w[:, 0])
        image = self.to_image[0](x, w[:, 1]) + self.image_bias[0]
        for k in range(1, len(self.to_image)):
            x = self.convs[2 * k - 1](x, w[:, 2 * k - 1])
            x = self.convs[2 * k](x, w[:, 2 * k])
            image = self.upsample(image) + self.to_image[k](x, w[:, 2 * k + 1]) + self.image_bias[k]
        return image


class Conv(nn.Module):
    def __init__(self, i: int, o: int, k: int, down: bool = False, bias: bool = True):
        super().__init__()
        self.weight, self.down, self.k = Weight(o, i, k, k), down, k
        self.bias = nn.Parameter(torch.zeros(o)) if bias else None
        self.filter = Filter(pad=(2, 2) if k == 3 else (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            return F.conv2d(self.filter(x), self.weight(), self.bias, stride=2)
        return F.conv2d(x, self.weight(), self.bias, padding=self.k // 2)


class Block(nn.Module):
    def __init__(self, i: int, o: int):
        super().__init__()
        self.conv1, self.conv2, self.skip = Conv(i, i, 3), Conv(i, o, 3, down=True), Conv(i, o, 1, True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (act(self.conv2(act(self.conv1(x)))) + self.skip(x)) / 2**0.5


class Discriminator(nn.Module):
    def __init__(self, config, channels: int):
        super().__init__()
        falling = config.resolutions[::-1]
        self.from_image = Conv(channels, config.width(falling[0]), 1)
        self.blocks = nn.Sequential(*(Block(config.width(r), config.width(r // 2)) for r in falling[:-1]))
        c = config.width(4)
        self.conv, self.dense, self.out = Conv(c + 1, c, 3), Dense(c * 16, config.features), Dense(config.features, 1)

    def features(self, images: Tensor) -> Tensor:
        x = self.blocks(act(self.from_image(images)))
        group = min(4, len(x))
        deviation = x.reshape(len(x) // group, group, -1).var(1, unbiased=False).add(1e-8).sqrt().mean(1)
        deviation = deviation.repeat_interleave(group)[:, None, None, None].expand(-1, 1, 4, 4)
        return act(self.dense(act(self.conv(torch.cat([x, deviation], 1))).flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.features(images)).squeeze(1)


class Reference(nn.Module):
    """`step` and `embed` as in the method seam."""

    def __init__(self, config: GANDLConfig, channels: int):
        super().__init__()
        self.config = config
        self.G, self.D = Generator(config.network, channels), Discriminator(config.network, channels)
        self.G_ema = Generator(config.network, channels).requires_grad_(False)
        self.G_ema.load_state_dict(self.G.state_dict())
        betas = (0.0, config.beta2)
        self.opt_g = torch.optim.Adam(self.G.parameters(), config.learning_rate, betas)
        self.opt_d = torch.optim.Adam(self.D.parameters(), config.learning_rate, betas)
        self.mean_path_length = 0.0

    def fakes(self, n: int) -> tuple[Tensor, Tensor]:
        device = next(self.parameters()).device
        w = self.G.styles(torch.randn(n, self.config.network.latent, device=device), self.config.style_mixing)
        return self.G.synthesis(w), w

    def step(self, real: Tensor, n_seen: int) -> None:
        c, k = self.config, n_seen // self.config.batch
        self.D.requires_grad_(True)
        with torch.no_grad():
            fake, _ = self.fakes(len(real))
        self.opt_d.zero_grad()
        losses.discriminator_logistic(self.D(real), self.D(fake)).backward()
        if k % c.r1_every == 0:
            x = real.detach().requires_grad_(True)
            (c.r1_every * c.gamma / 2 * losses.r1(losses.input_gradient(self.D(x), x))).backward()
            if c.lipschitz_weight:
                x = losses.uniform_mix(real, fake).requires_grad_(True)
                penalty = losses.lipschitz_one_sided(losses.input_gradient(self.D(x), x))
                (c.r1_every * c.lipschitz_weight * penalty).backward()
        self.opt_d.step()

        self.D.requires_grad_(False)
        self.opt_g.zero_grad()
        losses.generator_nonsaturating(self.D(self.fakes(len(real))[0])).backward()
        if k % c.path_every == 0:
            lengths = losses.path_lengths(*self.fakes(len(real) // 2))
            self.mean_path_length += c.path_decay * (lengths.mean().item() - self.mean_path_length)
            (c.path_every * c.path_weight * (lengths - self.mean_path_length).square().mean()).backward()
        self.opt_g.step()

        keep = 0.5 ** (len(real) / (c.ema_kimg * 1000))
        with torch.no_grad():
            for average, p in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
                average.lerp_(p, 1 - keep)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        return self.D.features(images)
