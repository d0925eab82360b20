"""The paper's other columns: networks of the published size, laws that each must keep, labels only where allowed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import requests
import torch
from safetensors.torch import save_file
from torch import nn

from gandl_lib import checkpoints, shards, train
from gandl_lib.embed import open_method
from gandl_lib.methods import lookup
from gandl_lib.methods.autoencoders import ConvAE
from gandl_lib.methods.imagenet import ImageNetCollapsed, ImageNetConcatenated, ImageNetConfig
from gandl_lib.methods.supervised import Supervised
from gandl_lib.nn import pretrained
from gandl_lib.nn.densenet import DenseNet, from_torchvision
from gandl_lib.nn.squeezenet import MIN_PX, SqueezeNet
from gandl_lib.splits import by_well


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# ---- networks ----


@pytest.mark.parametrize(
    ("build", "total", "classifier", "width"),
    [
        (SqueezeNet, 1_235_496, 512 * 1000 + 1000, 512),
        (lambda: DenseNet("densenet121"), 7_978_856, 1024 * 1000 + 1000, 1024),
        (lambda: DenseNet("densenet161"), 28_681_000, 2208 * 1000 + 1000, 2208),
    ],
)
def test_networks_have_their_published_size(build, total, classifier, width):
    """Parameters as torchvision counts them, less the classifier of a thousand classes."""
    network = build()
    assert size(network) == total - classifier
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, width) == (1, network.width)


def test_squeezenet_has_a_smallest_image():
    assert SqueezeNet()(torch.zeros(1, 3, MIN_PX, MIN_PX)).shape == (1, 512)
    with pytest.raises(RuntimeError):
        SqueezeNet()(torch.zeros(1, 3, MIN_PX - 1, MIN_PX - 1))


@pytest.mark.parametrize("old", [True, False])
def test_densenet_takes_torchvisions_names_old_and_new(old):
    network = DenseNet("densenet121")
    dot = "." if old else ""
    published = {
        key.replace(".layers.", ".").replace("norm1.", f"norm{dot}1.").replace("norm2.", f"norm{dot}2.")
        .replace("conv1.", f"conv{dot}1.").replace("conv2.", f"conv{dot}2."): t
        for key, t in network.state_dict().items()
    }  # fmt: skip
    assert any("denselayer1.norm.1.weight" in key for key in published) == old
    found = from_torchvision(published | {"classifier.weight": torch.zeros(1)})
    assert found.keys() == network.state_dict().keys()


# ---- ImageNet weights are those of ImageNet or none ----


def test_weights_are_found_and_the_network_stays_as_it_was(imagenet_weights):
    network = pretrained.network("squeezenet1_1")
    assert pretrained.find("squeezenet1_1").parent == imagenet_weights
    assert not network.train().training and not any(p.requires_grad for p in network.parameters())
    rgb = torch.rand(2, 3, 32, 32) * 2 - 1
    mean, sd = (torch.tensor(v)[:, None, None] for v in (pretrained.MEAN, pretrained.SD))
    torch.testing.assert_close(network(rgb), network.body(((rgb + 1) / 2 - mean) / sd))


def test_without_weights_or_a_network_it_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("GANDL_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))

    def offline(*args, **kwargs):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "get", offline)
    with pytest.raises(ValueError, match=r"not at .*GANDL_WEIGHTS.*could not be fetched \(ConnectionError\)"):
        open_method("imagenet-concatenated", "abcde")
    with pytest.raises(ValueError, match="known are squeezenet1_1"):
        pretrained.find("resnet50")
    with pytest.raises(ValueError, match="no such file of squeezenet1_1 weights"):
        pretrained.find("squeezenet1_1", str(tmp_path / "x.safetensors"))


def test_what_was_fetched_must_have_the_published_checksum(tmp_path, monkeypatch):
    import hashlib

    class Reply:
        content = b"not the weights"

        def raise_for_status(self):
            pass

    monkeypatch.setattr(requests, "get", lambda url, timeout: Reply)
    monkeypatch.setattr(Reply, "raise_for_status", lambda *a: None)
    with pytest.raises(OSError, match="does not begin with b8a52dc0"):
        pretrained._fetch(pretrained.PUBLISHED["squeezenet1_1"], tmp_path / "w.pth")
    assert not list(tmp_path.iterdir())
    digits = hashlib.sha256(Reply.content).hexdigest()[:8]
    pretrained._fetch(f"https://example.org/net-{digits}.pth", tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == Reply.content


def test_a_file_of_another_network_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises((ValueError, RuntimeError), match="size mismatch|not the weights of squeezenet1_1"):
        pretrained.network("squeezenet1_1", str(path))


# ---- ImageNet, two ways ----


def test_concatenated_features_follow_their_channels(imagenet_weights):
    method = ImageNetConcatenated(ImageNetConfig(), 3)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    features = method.embed(images).unflatten(1, (3, 512))
    order = [2, 0, 1]
    torch.testing.assert_close(method.embed(images[:, order]).unflatten(1, (3, 512)), features[:, order])
    grey = images[:, 1:2].expand(-1, 3, -1, -1)
    torch.testing.assert_close(features[:, 1], method.network(grey))


def test_the_collapse_begins_as_a_grey_photograph_and_only_it_learns(imagenet_weights):
    method = ImageNetCollapsed(ImageNetConfig(), 5, ["C+", "C-"])
    images = torch.rand(4, 5, 32, 32) * 2 - 1
    grey = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(method.embed(images), method.network(grey), rtol=1e-4, atol=1e-5)
    before = {name: t.clone() for name, t in method.state_dict().items()}
    method.train().step(images, 0, torch.tensor([0, 1, 0, 1]))
    moved = {name for name, t in method.state_dict().items() if not torch.equal(t, before[name])}
    assert moved == {"collapse.weight", "collapse.bias", "head.weight", "head.bias"}
    assert set(checkpoints.weights(method)) == {"collapse.weight", "collapse.bias"}


# ---- labels ----


@pytest.fixture
def store(make_screen, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "probe", lambda *args, **kwargs: {})
    return shards.Shards(shards.write(make_screen(wells=30, sites=1, size=(40, 40)), tmp_path / "screen.zarr"))


@pytest.mark.parametrize("keep", ["last", "validation", "test"])
def test_labels_are_those_of_training_wells(store, keep):
    wells = store.wells
    labels = train.labelled(ImageNetCollapsed, ImageNetConfig(keep=keep), wells, seed=3)
    test = by_well(wells, seed=3)
    assert labels.classes == ["C+", "C-"]
    assert labels.learn.any() and not (labels.learn & test).any()
    assert set(wells["role"][labels.learn]) == {"C+", "C-"}
    assert (np.array(labels.classes)[labels.codes[labels.learn]] == wells["role"][labels.learn]).all()
    assert (labels.codes[~wells["role"].isin(["C+", "C-"])] == -1).all()
    if keep == "last":
        assert labels.choose is None
    else:
        assert labels.choose.any() and not (labels.choose & labels.learn).any()
        assert (labels.choose & test).any() == (keep == "test")
    assert train.labelled(lookup("gandl")[0], None, wells, 0) is None
    with pytest.raises(ValueError, match="two classes among the training wells; found 'Remdesivir"):
        train.labelled(Supervised, lookup("supervised")[1], wells, 0)


def run(name, preset, store, folder, images, ticks, seed=0):
    config = train.TrainConfig(images=images, ticks=ticks, accelerator="cpu", seed=seed)
    return train.train(name, store, folder, preset=preset, config=config)


def test_each_image_comes_with_its_own_label(store, tmp_path, monkeypatch):
    monkeypatch.setattr(Supervised, "label", "role")
    monkeypatch.setattr(Supervised, "label_values", ("C+", "C-", "UV"), raising=False)
    seen = []
    step = Supervised.step

    def spy(self, images, n_seen, labels):
        seen.extend(zip(range(n_seen, n_seen + len(images)), labels.tolist(), strict=True))
        return step(self, images, n_seen, labels)

    monkeypatch.setattr(Supervised, "step", spy)
    weights = run("supervised", "tiny", store, tmp_path / "run", images=32, ticks=2)
    header = checkpoints.read(weights)[1]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert header["classes"] == config["classes"] == ["C+", "C-", "UV"] and header["label"] == "role"
    assert header["peak_memory_MB"] > 1
    test = by_well(store.wells, seed=0)
    shown = store.wells["role"].isin(header["classes"]).to_numpy() & ~test
    crops = train.TrainingCrops(store, 16, 0, True, shown)
    assert [(k, store.wells["role"][crops.site(k)]) for k in range(32)] == [(k, header["classes"][y]) for k, y in seen]
    method, _ = open_method(str(weights), store.channels)
    assert method.embed(torch.zeros(1, 5, 16, 16)).shape == (1, 16)
    assert not [name for name in checkpoints.read(weights)[0] if name.startswith(("softmax", "arcface"))]


def test_four_labelled_steps_are_two_and_two_more(store, tmp_path, monkeypatch):
    monkeypatch.setattr(Supervised, "label", "role")
    whole = run("supervised", "tiny", store, tmp_path / "whole", 32, 2)
    run("supervised", "tiny", store, tmp_path / "torn", 16, 1)
    torn = run("supervised", "tiny", store, tmp_path / "torn", 32, 2)
    a, b = (checkpoints.read(path)[0] for path in (whole, torn))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_tick_that_chooses_best_is_the_one_kept(store, tmp_path, monkeypatch, imagenet_weights):
    scores = iter([0.5, 0.6, 0.9, 0.7, 0.9])
    kept = []

    def score(method, *args):
        kept.append(method.collapse.weight.detach().clone())
        return next(scores)

    monkeypatch.setattr(train, "score", score)
    weights = run("imagenet-collapsed", "squeezenet", store, tmp_path / "run", images=128, ticks=4)
    tensors, header = checkpoints.read(weights)
    assert torch.equal(tensors["collapse.weight"], kept[2]) and not torch.equal(kept[2], kept[3])
    assert header["kept_n_seen"] == 64 and header["n_seen"] == 128 and header["choice_accuracy"] == 0.9
    assert open_method(str(weights), store.channels)[0].embed(torch.zeros(1, 5, 40, 40)).shape == (1, 512)


def test_arcface_asks_for_a_margin():
    """Its loss is cross-entropy with the angle to the true class widened by the margin, times the scale."""
    method = Supervised(lookup("supervised", "tiny")[1], 5, ["a", "b", "c"])
    z, y = torch.randn(6, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    directions = nn.functional.normalize(method.arcface.W, dim=0)  # (D, classes)
    cosine = nn.functional.normalize(z, dim=1) @ directions
    widened = torch.cos(torch.acos(cosine) + np.deg2rad(method.config.margin_degrees))
    true = nn.functional.one_hot(y, 3).bool()
    easy = torch.acos(cosine)[true] + np.deg2rad(method.config.margin_degrees) < np.pi
    assert easy.all(), "the formula holds while the widened angle is below a half turn"
    wanted = nn.functional.cross_entropy(torch.where(true, widened, cosine) * method.config.scale, y)
    torch.testing.assert_close(method.arcface(z, y), wanted, rtol=1e-3, atol=1e-4)


def test_a_supervised_network_learns_what_it_is_told():
    """The mechanism must improve: texture decides the class, brightness says nothing."""
    torch.manual_seed(0)
    method = Supervised(lookup("supervised", "tiny")[1], 2, ["stripes", "noise"]).train()
    stripes = torch.ones(1, 1, 16, 16)
    stripes[..., ::2] = -1

    def batch(n):
        y = torch.randint(2, (n,))
        x = torch.where((y == 0)[:, None, None, None], stripes, stripes.flatten()[torch.randperm(256)].view(16, 16))
        return x.expand(-1, 2, -1, -1) * 0.5 + 0.3 * torch.randn(n, 2, 16, 16), y

    losses = []
    for k in range(60):
        images, labels = batch(8)
        terms = method.step(images, 8 * k, labels)
        losses.append(float(terms["softmax"] + terms["arcface"]))
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    x, y = batch(64)
    assert (method.eval().predict(x) == y).float().mean() > 0.9


# ---- autoencoder ----


def test_an_autoencoder_learns_to_draw():
    torch.manual_seed(0)
    method = ConvAE(replace(lookup("convae", "tiny")[1], learning_rate=0.05), 2).train()
    stripes = torch.ones(8, 2, 16, 16)
    stripes[..., ::4] = -1

    def batch():
        return stripes * torch.rand(8, 2, 1, 1) + 0.05 * torch.randn(8, 2, 16, 16)

    losses = [float(method.step(batch(), 8 * k)["pixels"]) for k in range(240)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    x = batch()
    assert method.decoder(method.encoder(x)).shape == x.shape and method.embed(x).shape == (8, 32)


def test_the_perceptual_distance_is_none_where_nothing_differs(imagenet_weights):
    method = ConvAE(replace(lookup("convae", "tiny")[1], perceptual_weight=1.0), 5)
    x = torch.rand(2, 5, 32, 32) * 2 - 1
    assert method._distance(x, x) == 0
    assert method._distance(x.flip(0), x) > 0.01
    assert not [name for name in method.state_dict() if not name.startswith(("encoder.", "decoder."))]


def test_the_published_sizes():
    assert lookup("convae", "paper")[1].sizes.latent == 1024
    assert lookup("supervised", "paper")[1].network == "densenet161"
    assert lookup("supervised", "paper")[1].features == 1024
    assert ConvAE(lookup("convae")[1], 5).embed(torch.zeros(1, 5, 64, 64)).shape == (1, 1024)
