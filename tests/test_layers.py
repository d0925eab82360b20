"""The parts of StyleGAN2 against closed forms, SciPy, and slow twins written from the paper's formulas."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import upfirdn

from gandl_lib.nn import layers
from gandl_lib.nn.stylegan2 import Discriminator, Generator, StyledConv, StyleGAN2Config

FIR = np.array([1, 3, 3, 1]) / 8


def test_equalised_rates_equal_multiplying_at_runtime():
    """Adam on scaled weights with scaled rates = Adam on unit weights multiplied in the forward pass."""
    torch.manual_seed(0)
    ours = layers.Linear(6, 4, lr_multiplier=0.1, gain=2**0.5).double()
    gain = 2**0.5 / 6**0.5
    v = torch.nn.Parameter(ours.weight.detach() / (gain * 0.1))  # the paper's stored weight
    b = torch.nn.Parameter(ours.bias.detach() / 0.1)
    adam = torch.optim.Adam(layers.adam_groups(ours, 0.02), betas=(0.0, 0.99))
    twin = torch.optim.Adam([v, b], lr=0.02, betas=(0.0, 0.99))
    x, y = torch.randn(32, 6).double(), torch.randn(32, 4).double()
    for _ in range(20):
        for optimiser, predict in ((adam, lambda: ours(x)), (twin, lambda: x @ (v * gain * 0.1).T + b * 0.1)):
            optimiser.zero_grad()
            (predict() - y).square().mean().backward()
            optimiser.step()
    torch.testing.assert_close(ours.weight, v * gain * 0.1)
    torch.testing.assert_close(ours.bias, b * 0.1)


def _scipy_2d(image, up, down):
    rows = upfirdn(FIR, image, up, down, axis=0)
    return upfirdn(FIR, rows, up, down, axis=1)


@given(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_resampling_agrees_with_scipy(channels, half_height, half_width):
    x = torch.randn(2, channels, 2 * half_height, 2 * half_width, dtype=torch.float64)
    up, down = layers.upsample(x), layers.downsample(x)
    blurred = layers.blur(x, padding=2)
    for b in range(2):
        for c in range(channels):
            image = x[b, c].numpy()
            expected = 4 * _scipy_2d(image, 2, 1)[1:, 1:][: up.shape[2], : up.shape[3]]
            np.testing.assert_allclose(up[b, c], expected, atol=1e-6)
            full = _scipy_2d(image, 1, 1)  # full convolution, height + 3
            np.testing.assert_allclose(blurred[b, c], full[1:-1, 1:-1], atol=1e-6)
            np.testing.assert_allclose(down[b, c], full[2:-1:2, 2:-1:2], atol=1e-6)


def test_filters_are_each_others_transpose_to_second_order():
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    y = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    down, up = layers.downsample(x), layers.upsample(y) / 4
    torch.testing.assert_close((down * y).sum(), (x * up).sum())
    for f in (layers.downsample, layers.upsample, lambda t: layers.blur(t, 2), lambda t: layers.blur(t, 1, 4.0)):
        torch.autograd.gradcheck(f, (x,))
        torch.autograd.gradgradcheck(f, (x,))


def test_upsampling_preserves_a_constant_inside():
    up = layers.upsample(torch.full((1, 3, 8, 8), 0.7))
    torch.testing.assert_close(up[:, :, 2:-2, 2:-2], torch.full((1, 3, 12, 12), 0.7))


@pytest.mark.parametrize(("batch", "group", "expected"), [(8, 4, 4), (6, 4, 3), (5, 4, 1), (2, 4, 2)])
def test_minibatch_stddev_is_the_loop(batch, group, expected):
    x = torch.randn(batch, 3, 2, 2)
    found = layers.minibatch_stddev(x, group)
    for start in range(0, batch, expected):
        members = x[start : start + expected].flatten(1)
        twin = np.sqrt(members.numpy().var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(found[start : start + expected], twin, rtol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_styled_conv_is_the_papers_per_sample_weights(up):
    """Modulate and demodulate the weights themselves, sample by sample (Karras et al. 2020, eqs. 1 and 3)."""
    torch.manual_seed(1)
    layer = StyledConv(5, 7, latent=8, up=up).double()
    layer.bias.data.normal_()
    a, w = torch.randn(3, 5, 6, 6).double(), torch.randn(3, 8).double()
    found = layer(a, w)
    for k in range(3):
        s = layer.affine(w[k])
        weights = layer.weight * s[None, :, None, None]
        weights = weights / (weights.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        x = a[k : k + 1] * 2**0.5
        if up:
            x = layers.blur(F.conv_transpose2d(x, weights.transpose(0, 1), stride=2), padding=1, gain=4.0)
        else:
            x = F.conv2d(x, weights, padding=1)
        expected = F.leaky_relu(x + layer.bias[:, None, None], 0.2)
        torch.testing.assert_close(found[k : k + 1], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_large_styles_are_divided_out_in_half_precision(half):
    """Their squares lie beyond fp16's range: a demodulation by what overflowed would be by 0, and finite."""
    torch.manual_seed(0)
    layer, a, w = StyledConv(5, 7, latent=8), torch.randn(3, 5, 6, 6), torch.randn(3, 8)
    layer.affine.weight.data.mul_(1000)
    expected = layer(a, w)
    with torch.autocast("cpu", half):
        found = layer(a, w).float()
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("channels", [1, 3, 5, 6])
@pytest.mark.parametrize(("resolution", "base", "head"), [(16, 64, "flatten"), (32, 256, "pool"), (24, 96, "flatten")])
def test_any_channels_any_width_same_512_features(channels, resolution, base, head):
    config = StyleGAN2Config(resolution, base, 32, latent=16, head=head)
    G, D = Generator(config, channels), Discriminator(config, channels)
    images = G(torch.randn(3, 16))
    assert images.shape == (3, channels, resolution, resolution)
    assert D(images).shape == (3,)
    assert D.features(images).shape == (3, 512)
    widths = [config.width(r // 2) for r in config.resolutions[:0:-1]]
    assert D.features(images, "blocks").shape == (3, 2 * sum(widths))


def test_activations_keep_unit_scale_at_initialisation():
    """Equalised weights with the sqrt(2) folded forward: images of a fresh generator have a standard deviation near 1
    per output skip, and logits of a fresh discriminator are of order 1."""
    torch.manual_seed(0)
    config = StyleGAN2Config(32, 1024, 64, latent=64)
    images = Generator(config, 5)(torch.randn(64, 64))
    assert 0.5 < images.std() < 3
    logits = Discriminator(config, 5)(torch.randn(64, 5, 32, 32))
    assert 0.1 < logits.square().mean().sqrt() < 3


def test_style_mixing_takes_early_layers_from_one_latent_and_late_from_another():
    torch.manual_seed(0)
    G = Generator(StyleGAN2Config(32, 64, 16, latent=16), 5)
    z = torch.randn(200, 16)
    w = G.styles(z, mixing=0.9)
    changes = (w[:, 1:] != w[:, :-1]).any(dim=2).sum(dim=1)
    assert set(changes.tolist()) <= {0, 1}
    assert 0.8 < changes.float().mean() < 0.97
    torch.testing.assert_close(w[:, 0], G.mapping(z))


@pytest.mark.parametrize("bad", [dict(resolution=40), dict(resolution=6), dict(resolution=4), dict(head="mean")])
def test_bad_sizes_say_what_was_found(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        StyleGAN2Config(**bad)


def test_unknown_tap_is_named():
    D = Discriminator(StyleGAN2Config(16, 64, 16), 5)
    with pytest.raises(ValueError, match="'logit'"):
        D.features(torch.zeros(1, 5, 16, 16), "logit")
