"""GAN-DL as a method: every preset builds, every parameter learns, an embedding ignores its batch mates."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gandl_lib import losses
from gandl_lib.methods import METHODS, lookup
from gandl_lib.methods.gandl import GANDL, PRESETS, GANDLConfig
from gandl_lib.nn.convolution import without_fp16
from gandl_lib.nn.stylegan2 import StyleGAN2Config

SMALL = GANDLConfig(
    network=StyleGAN2Config(resolution=16, width_base=64, width_max=16, latent=16),
    batch=4,
    learning_rate=2e-3,
    r1_every=2,
    path_every=2,
)


@pytest.mark.parametrize("tap", ["penultimate", "blocks"])
def test_an_embedding_ignores_its_batch_mates(tap):
    method = GANDL(replace(SMALL, tap=tap), 5)
    for k in range(3):
        method.step(torch.randn(4, 5, 16, 16), 4 * k)
    images = torch.randn(8, 5, 16, 16)
    together = method.embed(images)
    alone = torch.cat([method.embed(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(method.embed(images.flip(0)), together.flip(0), rtol=1e-4, atol=1e-5)


def test_all_layers_are_read_as_mean_and_deviation_of_each_map():
    discriminator = GANDL(SMALL, 5).discriminator
    images = torch.randn(3, 5, 16, 16)
    expected = [s(dim=(2, 3)) for m in discriminator.maps(images) for s in (m.double().mean, m.double().std)]
    found = discriminator.features(images, "blocks")
    torch.testing.assert_close(found, torch.cat(expected, dim=1).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share_fakes", [True, False])
def test_every_parameter_moves_and_every_penalty_is_felt(share_fakes):
    method = GANDL(replace(SMALL, share_fakes=share_fakes), 3)
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    seen = set()
    for k in range(4):
        seen |= method.step(torch.randn(4, 3, 16, 16), 4 * k).keys()
    assert seen >= {"loss_d", "loss_g", "r1", "lipschitz", "path_length"}
    still = [name for name, p in method.named_parameters() if torch.equal(p, before[name])]
    # The two noise strengths' sisters move; a 4 x 4 noise map may meet a zero gradient only by a miracle.
    assert not still


def test_both_networks_see_arcsinh_scaled_images_and_show_unscaled_ones():
    torch.manual_seed(0)
    plain, lifted = GANDL(SMALL, 3).eval(), GANDL(replace(SMALL, arcsinh=8.0), 3).eval()
    lifted.load_state_dict(plain.state_dict())
    images, z = torch.rand(4, 3, 16, 16) * 2 - 1, torch.randn(4, 16)
    scaled = 2 * np.arcsinh(8 * (images.numpy() + 1) / 2) / math.asinh(8) - 1
    torch.testing.assert_close(lifted.embed(images), plain.embed(torch.from_numpy(scaled)))
    torch.manual_seed(1)
    shown = lifted.sample(z).numpy()
    torch.manual_seed(1)
    seen = plain.sample(z).numpy()
    np.testing.assert_allclose(2 * np.arcsinh(8 * (shown + 1) / 2) / math.asinh(8) - 1, seen, atol=1e-5)

    real, looked = [], lifted.discriminator.forward
    lifted.discriminator.forward = lambda x, **k: real.append(x.detach()) or looked(x, **k)
    lifted.step(images, 0)
    np.testing.assert_allclose(real[0], scaled, atol=1e-6)
    with pytest.raises(ValueError, match="arcsinh must be above 0"):
        replace(SMALL, arcsinh=0.0)


def test_augmented_images_are_what_the_discriminator_is_shown_and_penalised_on():
    method = GANDL(replace(SMALL, ada_target=0.6, ada_kimg=0.001), 3)
    seen, looked = [], method.discriminator.forward
    method.discriminator.forward = lambda images, **real: seen.append(images.detach()) or looked(images, **real)
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    method.augment.p.fill_(1.0)
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    terms = method.step(images, 0)
    assert len(seen) == 4 and not torch.equal(seen[0], images), "real, fake, their mix, and the generator's fakes"
    assert terms["r1"] > 0 and terms["lipschitz"] >= 0
    for k in range(1, 4):
        method.step(images, 4 * k)
    assert not [name for name, p in method.named_parameters() if torch.equal(p, before[name])]


HALVES = [(torch.bfloat16, 0.05), (torch.float16, 0.01)]


@pytest.mark.parametrize("changes", [{}, {"share_fakes": False}, {"ada_target": 0.6}])
@pytest.mark.parametrize(("half", "rel"), HALVES)
def test_half_precision_steps_close_to_fp32(changes, half, rel):
    """The same iterations, with every lazy penalty, under autocast: finite, and within its precision."""
    config, images = replace(SMALL, **changes), torch.rand(4, 3, 16, 16) * 2 - 1
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        method = GANDL(config, 3)
        method.scaler = torch.amp.GradScaler("cpu", enabled=enabled and half == torch.float16)
        with torch.autocast("cpu", half, enabled=enabled):
            terms = method.step(images, 0)
        assert {p.dtype for p in method.parameters()} == {torch.float32}
        assert method.embed(images).dtype == torch.float32
        found.append({name: float(value) for name, value in terms.items()})
    assert found[1].keys() == found[0].keys() >= {"r1", "lipschitz", "path_length"}
    assert found[1] == pytest.approx(found[0], rel=rel, abs=rel / 2.5)
    if half == torch.float16 and "ada_target" not in changes:
        assert found[1]["r1"] == found[0]["r1"]  # of real images, and in fp32 altogether


def test_penalties_are_fp32_where_the_rest_is_fp16(monkeypatch):
    """No cast in all that a penalty was computed from, and its gradient by the weights is that of fp32, bit for bit."""

    def casts(tensor: torch.Tensor) -> bool:
        found, todo = set(), [tensor.grad_fn]
        while todo:
            node = todo.pop()
            if node is not None and node not in found:
                found.add(node)
                todo += [parent for parent, _ in node.next_functions]
        return any("ToCopy" in node.name() for node in found)

    def spy(name, original, *args):
        found = original(*args)
        seen[name] = casts(found)
        return found

    seen, penalties = {}, ["r1", "lipschitz_one_sided", "lipschitz_two_sided", "path_lengths"]
    for name in [*penalties, "generator_nonsaturating"]:
        monkeypatch.setattr(losses, name, functools.partial(spy, name, getattr(losses, name)))
    critic = METHODS["wgan-gp"](METHODS["wgan-gp"].presets["tiny"], 3)
    for method in (GANDL(SMALL, 3), critic):
        with torch.autocast("cpu", torch.float16):
            method.step(torch.rand(method.batch, 3, *[method.crop_px] * 2) * 2 - 1, 0)
    assert seen == dict.fromkeys(penalties, False) | {"generator_nonsaturating": True}

    images, found = torch.rand(4, 3, 16, 16, requires_grad=True), []
    for enabled in (False, True):
        torch.manual_seed(0)
        method = GANDL(SMALL, 3)
        with torch.autocast("cpu", torch.float16, enabled=enabled):
            with without_fp16(images):
                logits = method.discriminator(images)
            method.update("discriminator", losses.r1(losses.input_gradient(logits, images)))
        found.append([p.grad for p in method.discriminator.parameters() if p.grad is not None])
    assert len(found[0]) > 5 and all(map(torch.equal, *found))


def test_fp16_learns_what_fp32_learns():
    """The same 256 images in both: finite weights, no step skipped, and losses that stay together."""
    config, curves = replace(SMALL, network=replace(SMALL.network, width_base=32, width_max=8)), []
    for enabled in (False, True):
        torch.manual_seed(0)
        method = GANDL(config, 2)
        method.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, enabled=enabled)
        curve = []
        for k in range(64):
            torch.manual_seed(k)
            images = torch.rand(4, 2, 1, 16).expand(-1, -1, 16, -1) * 2 - 1
            with torch.autocast("cpu", torch.float16, enabled=enabled):
                terms = method.step(images, 4 * k)
            curve.append([float(terms[name]) for name in ("loss_d", "loss_g")])
        curves.append(np.array(curve))
        assert all(torch.isfinite(t).all() for t in method.state_dict().values())
    assert method.scaler.get_scale() == 2.0**12
    np.testing.assert_allclose(curves[1], curves[0], atol=0.02)


def test_the_statistic_at_extraction_is_the_mean_of_real_batches():
    method = GANDL(SMALL, 5)
    D = method.discriminator
    method.train()
    for _ in range(1500):
        D.real_stddev.lerp_(torch.tensor(0.25), 0.01)
    assert abs(D.real_stddev - 0.25) < 1e-3
    found = D.real_stddev.clone()
    D(torch.randn(4, 5, 16, 16))  # fakes leave it alone
    assert torch.equal(D.real_stddev, found)
    D(torch.randn(4, 5, 16, 16), real=True)
    assert not torch.equal(D.real_stddev, found)


def test_the_average_generator_follows_with_its_half_life():
    method = GANDL(replace(SMALL, ema_kimg=0.008, ema_rampup=1e9), 5)  # half-life of 8 images = two batches
    with torch.no_grad():
        for p in method.generator.parameters():
            p.fill_(1.0)
        for p in method.generator_ema.parameters():
            p.fill_(0.0)
    method._average(n_seen=4, n_new=4)
    method._average(n_seen=8, n_new=4)
    for p in method.generator_ema.parameters():
        torch.testing.assert_close(p, torch.full_like(p, 0.5))


def test_the_r1_weight_follows_the_heuristic_unless_given():
    assert PRESETS["paper"].gamma == pytest.approx(0.0002 * 256**2 / 32)
    assert replace(SMALL, r1_gamma=3.0).gamma == 3.0


def test_a_discriminator_learns_to_tell_noise_from_stripes():
    """The mechanism must improve: after some steps real logits exceed those of what the generator draws."""
    torch.manual_seed(0)
    method = GANDL(replace(SMALL, path_weight=0.0), 1)
    stripes = torch.ones(4, 1, 16, 16)
    stripes[:, :, ::2] = -1
    for k in range(40):
        terms = method.step(stripes + 0.05 * torch.randn_like(stripes), 4 * k)
    assert terms["logit_real"] > terms["logit_fake"]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_seam(name, imagenet_weights, request):
    if name == "transformer":
        request.getfixturevalue("encoder")
    cls = METHODS[name]
    config = SMALL if cls.presets is GANDL.presets else next(iter(cls.presets.values()))
    method = cls(config, 5, *([["a", "b"]] if cls.label else [])).eval()
    images = torch.rand(3, 5, *[method.crop_px or 40] * 2) * 2 - 1
    features = method.embed(images)
    assert features.shape[0] == 3 and features.ndim == 2 and features.dtype == torch.float32
    assert torch.isfinite(features).all()
    torch.testing.assert_close(features[1:2], method.embed(images[1:2]), rtol=1e-4, atol=1e-5)
    if cls.trainable:
        assert method.batch > 0 and method.optimisers and callable(method.sync_gradients)


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if cls.trainable])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_every_method_learns_in_half_precision(name, half, imagenet_weights):
    """In fp16 from a scale that is far too high, too: steps are skipped, weights left alone, until it fits."""
    cls = METHODS[name]
    preset = next((p for p in cls.presets if "tiny" in p), next(iter(cls.presets)))
    labels = [torch.arange(cls.presets[preset].batch) % 2] if cls.label else []
    method = cls(cls.presets[preset], 5, *([["a", "b"]] if labels else []))
    learnt = [p for o in method.optimisers.values() for group in o.param_groups for p in group["params"]]
    images, before = torch.rand(method.batch, 5, *[method.crop_px or 40] * 2) * 2 - 1, [p.clone() for p in learnt]
    with torch.autocast("cpu", half):
        if half == torch.float16:
            method.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
            method.step(images, method.batch, *labels)  # no lazy penalty, which is in fp32
            assert all(torch.equal(p, was) for p, was in zip(learnt, before, strict=True))
            assert method.scaler.get_scale() < 2.0**60
            method.scaler.update(2.0**8)
        for k in range(2):
            terms = method.step(images, k * method.batch, *labels)
    assert all(math.isfinite(value) for value in terms.values())
    assert {p.dtype for p in method.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in learnt) and not all(map(torch.equal, learnt, before))


def test_presets_are_named_and_described():
    assert set(PRESETS) == {"paper", "gpu128", "quick32", "quick64", "cell48", "cell96", "tiny", "tiny24"}
    for config in PRESETS.values():
        assert config.network.features == 512 and config.network.mapping_layers == 3


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="gandl-random"):
        lookup("gandal")
    with pytest.raises(ValueError, match="quick64"):
        lookup("gandl", "quick65")
    assert lookup("gandl")[1] == PRESETS["quick32"]
