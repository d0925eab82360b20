"""The benchmark's yardstick computes what the library computes, so that a ratio compares speed and nothing else."""

import sys
from pathlib import Path

import torch

from gandl_lib.methods.gandl import GANDLConfig
from gandl_lib.nn import stylegan2

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from reference import Reference  # noqa: E402

CONFIG = GANDLConfig(network=stylegan2.StyleGAN2Config(resolution=16, width_base=128, width_max=16, latent=16), batch=4)


def _copy(target, weight, gain):
    target.data.copy_(weight.v.detach() * weight.gain * gain)


def test_discriminators_agree_weight_for_weight():
    ref = Reference(CONFIG, 5).D
    ours = stylegan2.Discriminator(CONFIG.network, 5)
    root2 = 2**0.5
    _copy(ours.from_image.weight, ref.from_image.weight, 1)
    for k, (a, b) in enumerate(zip(ours.blocks, ref.blocks, strict=True)):
        bare = root2 if k == 0 else 1.0
        _copy(a.conv1.weight, b.conv1.weight, bare)
        _copy(a.conv2.weight, b.conv2.weight, root2)
        _copy(a.skip.weight, b.skip.weight, bare / root2)
    _copy(ours.conv.weight, ref.conv.weight, 1)
    _copy(ours.dense.weight, ref.dense.weight, root2)
    _copy(ours.out.weight, ref.out.weight, root2)
    images = torch.randn(8, 5, 16, 16)
    torch.testing.assert_close(ours(images), ref(images), rtol=1e-4, atol=1e-5)
    a, b = (
        torch.autograd.grad(D(x).sum(), x)[0] for D, x in ((d, images.clone().requires_grad_()) for d in (ours, ref))
    )
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_generators_agree_weight_for_weight():
    ref = Reference(CONFIG, 5).G
    ours = stylegan2.Generator(CONFIG.network, 5).eval()
    for k, (a, b) in enumerate(zip(ours.mapping.layers, ref.mapping, strict=True)):
        _copy(a.weight, b.weight, 2**0.5 if k else 1.0)
    ours.constant.data.copy_(ref.constant)
    pairs = [*zip(ours.convs, (c.conv for c in ref.convs), strict=True), *zip(ours.to_image, ref.to_image, strict=True)]
    for a, b in pairs:
        _copy(a.weight, b.weight, 1)
        _copy(a.affine.weight, b.affine.weight, 1)
    z = torch.randn(3, 16)
    w = ref.styles(z, mixing=0.0)
    torch.testing.assert_close(ours.styles(z), w, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.synthesis(w), ref.synthesis(w), rtol=1e-3, atol=1e-4)
