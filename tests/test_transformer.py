"""Encoders of others: read from a folder, any number of channels, nothing fetched, no code run unasked."""

import json

import pytest
import torch

from gandl_lib.embed import open_method
from gandl_lib.methods.transformer import Transformer, TransformerConfig, find

transformers = pytest.importorskip("transformers")
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}


def dinov2():
    return transformers.Dinov2Model(transformers.Dinov2Config(**SIZES, mlp_ratio=2))


def vit():
    return transformers.ViTModel(transformers.ViTConfig(**SIZES, intermediate_size=32))


def vit_mae():
    return transformers.ViTMAEModel(transformers.ViTMAEConfig(**SIZES, intermediate_size=32))


@pytest.fixture(params=[dinov2, vit, vit_mae], ids=lambda f: f.__name__)
def folder(request, tmp_path):
    torch.manual_seed(0)
    request.param().save_pretrained(tmp_path)
    mean_and_sd = {"image_mean": [0.2, 0.3, 0.4], "image_std": [0.5, 0.6, 0.7]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(mean_and_sd))
    return tmp_path


def test_a_channel_is_a_photograph(folder):
    """Against the model itself, one channel at a time; features of a channel are those of its place among them."""
    method = Transformer(TransformerConfig(str(folder)), 2)
    images = torch.rand(3, 2, 32, 32) * 2 - 1
    found = method.embed(images)
    assert found.shape == (3, 2 * 16)
    torch.testing.assert_close(method.embed(images), found)  # nothing is hidden at random
    torch.testing.assert_close(method.embed(images[:, :1]), found[:, :16])
    torch.testing.assert_close(method.embed(images.flip(1)), found.roll(16, 1))
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model.config.mask_ratio = 0.0  # known to ViT-MAE only, whose tokens come in an order drawn at random even so
    for b in range(3):
        for c in range(2):
            rgb = torch.stack(
                [((images[b, c] + 1) / 2 - m) / s for m, s in zip((0.2, 0.3, 0.4), (0.5, 0.6, 0.7), strict=True)]
            )
            with torch.no_grad():
                tokens = model(pixel_values=rgb[None]).last_hidden_state[0]
            assert len(tokens) == 17  # one of the whole image, 16 of its patches
            torch.testing.assert_close(found[b, 16 * c : 16 * c + 16], tokens[1:].mean(0), atol=1e-5, rtol=1e-4)


def test_images_of_another_size_are_brought_to_the_models(folder):
    method = Transformer(TransformerConfig(str(folder)), 1)
    even = torch.full((1, 1, 48, 40), 0.2)
    torch.testing.assert_close(method.embed(even), method.embed(torch.full((1, 1, 32, 32), 0.2)))


def test_an_encoder_of_cells_gets_all_channels(tmp_path, monkeypatch):
    """Code in the folder runs only where that is allowed; it sees grey values from 0 to 255."""
    (tmp_path / "model.py").write_text(
        "import torch\n"
        "from transformers import PretrainedConfig, PreTrainedModel\n"
        "class Config(PretrainedConfig):\n    model_type = 'cells'\n"
        "class Model(PreTrainedModel):\n    config_class = Config\n"
        "    def __init__(self, config):\n"
        "        super().__init__(config)\n        self.scale = torch.nn.Parameter(torch.ones(1))\n"
        "        self.post_init()\n"
        "    def predict(self, x):\n        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)\n"
    )
    named = {"config": "model.Config", "model": "model.Model"}
    auto_map = {"AutoConfig": named["config"], "AutoModel": named["model"]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "cells", "auto_map": auto_map}))
    from safetensors.torch import save_file

    save_file({"scale": torch.ones(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    monkeypatch.setenv("GANDL_ENCODER", str(tmp_path))
    monkeypatch.delenv("GANDL_TRUST_ENCODER", raising=False)
    with pytest.raises(ValueError, match="code of its own"):
        open_method("transformer", ("DNA", "ER", "actin", "RNA"))
    monkeypatch.setenv("GANDL_TRUST_ENCODER", "1")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    method, header = open_method("transformer", ("DNA", "ER", "actin", "RNA"))
    assert header["method"] == "transformer"
    found = method.embed(torch.full((2, 4, 64, 64), 1.0))
    torch.testing.assert_close(found, torch.full((2, 8), 255.0))


def test_a_folder_that_is_none_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("GANDL_ENCODER", raising=False)
    with pytest.raises(ValueError, match="GANDL_ENCODER"):
        find()
    with pytest.raises(ValueError, match=r"config\.json"):
        find(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="safetensors"):
        find(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot open it"):
        Transformer(TransformerConfig(str(tmp_path)), 1)
