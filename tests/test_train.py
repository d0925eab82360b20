"""Training resumes to the same bits, says what is wrong before it starts, and leaves nothing half-written."""

import functools
import json
from dataclasses import replace

import pytest
import torch

from gandl_lib import checkpoints, shards, train
from gandl_lib.embed import open_method
from gandl_lib.methods import gandl

SMALL = gandl.GANDLConfig(
    network=gandl.StyleGAN2Config(resolution=8, width_base=64, width_max=8, latent=8), batch=2, r1_every=2, path_every=2
)


@pytest.fixture
def store(make_screen, tmp_path, monkeypatch):
    monkeypatch.setitem(gandl.PRESETS, "small", SMALL)
    monkeypatch.setattr(train, "probe", lambda *args, **kwargs: {"probe_accuracy": 0.5})
    return shards.Shards(shards.write(make_screen(), tmp_path / "screen.zarr"))


def run(store, folder, images=8, ticks=4, **changes):
    config = train.TrainConfig(images=images, ticks=ticks, accelerator="cpu", **changes)
    return train.train("gandl", store, folder, preset="small", config=config)


def tensors(path):
    return checkpoints.read(path)[0]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_four_steps_are_two_steps_saved_loaded_and_two_more(store, tmp_path, monkeypatch, precision):
    """In fp16 too, where the scale of gradients is halved and doubled on the way, and skips a step on either side."""
    scaler = functools.partial(torch.amp.GradScaler, init_scale=2.0**30, growth_interval=3)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    whole = run(store, tmp_path / "whole", precision=precision)
    step, calls = gandl.GANDL.step, []

    def dies(self, images, n_seen):
        calls.append(n_seen)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(self, images, n_seen)

    monkeypatch.setattr(gandl.GANDL, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        run(store, tmp_path / "torn", precision=precision)
    assert not (tmp_path / "torn" / "weights.safetensors").exists()
    monkeypatch.setattr(gandl.GANDL, "step", step)
    torn = run(store, tmp_path / "torn", precision=precision)
    assert same(tensors(whole), tensors(torn))
    states = [checkpoints.read(path.with_name("state.safetensors")) for path in (whole, torn)]
    assert same(states[0][0], states[1][0]) and states[0][1] == states[1][1]
    assert bool(states[0][1]["scaler"]) == (precision == "16-mixed")
    seen = [line["n_seen"] for line in train.read_stats(tmp_path / "torn")]
    assert seen == [0, 2, 4, 6, 8]


def test_another_seed_gives_other_weights(store, tmp_path):
    a, b = run(store, tmp_path / "a", images=2, ticks=1), run(store, tmp_path / "b", images=2, ticks=1, seed=1)
    assert not same(tensors(a), tensors(b))


def test_a_finished_run_is_left_alone_and_a_longer_one_goes_on(store, tmp_path, monkeypatch):
    path = run(store, tmp_path / "run", images=4, ticks=1)
    before = path.read_bytes()
    with monkeypatch.context() as m:
        m.setattr(gandl.GANDL, "step", None)  # would fail if called
        assert run(store, tmp_path / "run", images=4, ticks=1).read_bytes() == before
    run(store, tmp_path / "run", images=8, ticks=2)
    assert same(tensors(path), tensors(run(store, tmp_path / "whole", images=8, ticks=2)))


def test_a_run_begun_otherwise_is_not_touched(store, tmp_path):
    run(store, tmp_path / "run", images=2, ticks=1)
    config = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(ValueError, match="seed was 0, is 5"):
        run(store, tmp_path / "run", images=4, ticks=1, seed=5)
    assert (tmp_path / "run" / "config.json").read_bytes() == config


def test_bad_requests_fail_before_any_work(store, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="its presets are .*paper"):
        train.train("gandl", store, tmp_path / "x", preset="papr", config=train.TrainConfig())
    with pytest.raises(ValueError, match="nothing to train"):
        train.train("intensity", store, tmp_path / "x", config=train.TrainConfig())
    wide = replace(SMALL, network=replace(SMALL.network, resolution=32))
    monkeypatch.setitem(gandl.PRESETS, "wide", wide)
    with pytest.raises(ValueError, match="crops of 32 pixels do not fit"):
        train.train("gandl", store, tmp_path / "x", preset="wide", config=train.TrainConfig(accelerator="cpu"))


def test_divergence_stops_the_run_and_keeps_the_last_good_state(store, tmp_path, monkeypatch):
    step = gandl.GANDL.step

    def diverges(self, images, n_seen):
        terms = step(self, images, n_seen)
        return terms | {"loss_d": torch.tensor(float("nan"))} if n_seen >= 4 else terms

    monkeypatch.setattr(gandl.GANDL, "step", diverges)
    with pytest.raises(FloatingPointError, match="diverged before image 6"):
        run(store, tmp_path / "run")
    assert checkpoints.read(tmp_path / "run" / "state.safetensors")[1]["n_seen"] == 4


def test_the_folder_says_all_there_is_to_know(store, tmp_path):
    path = run(store, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["config"]["r1_every"] == 2 and config["train"]["images"] == 8 and config["channels"]
    header = checkpoints.read(path)[1]
    assert header["n_seen"] == 8 and header["seed"] == 0 and "torch" in header["versions"]
    names = {p.name for p in (tmp_path / "run").rglob("*")}
    assert not any(name.endswith(".partial") for name in names)
    assert {"000000000.png", "000000008.png"} <= names
    assert not any(name.startswith("generator.") for name in tensors(path))
    logged = set().union(*train.read_stats(tmp_path / "run"))
    assert {"n_seen", "loss_d", "loss_g", "r1", "images_per_second", "minutes", "probe_accuracy"} <= logged


def test_weights_come_back_as_the_same_method(store, tmp_path):
    run(store, tmp_path / "run")
    method, header = open_method(str(tmp_path / "run"), store.channels)
    images = torch.rand(2, 5, 8, 8)
    expected = gandl.GANDL(SMALL, 5)
    expected.load_state_dict(
        {k: v for k, v in tensors(tmp_path / "run" / "state.safetensors").items() if not k.startswith("optimiser.")}
    )
    torch.testing.assert_close(method.embed(images), expected.eval().embed(images))
    assert header["method"] == "gandl" and len(header["checkpoint_sha256"]) == 64


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ValueError, match="no such weights file"):
        checkpoints.load_weights(path)
    path.write_bytes(b"\x00" * 40)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        checkpoints.load_weights(path)
    checkpoints.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not one that `gandl train` wrote"):
        checkpoints.load_weights(path)
    checkpoints.save(path, {"a": torch.zeros(1)}, {"method": "ganbl"})
    with pytest.raises(ValueError, match="'ganbl'"):
        checkpoints.load_weights(path)


def test_a_precision_is_known_and_the_devices_own(monkeypatch, store, tmp_path):
    with pytest.raises(ValueError, match="unknown precision 'fp16'. Known are 32-true: .*; bf16-mixed: .*; 16-mixed: "):
        run(store, tmp_path / "run", precision="fp16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for accelerator in ("auto", "mps"):
        with pytest.raises(ValueError, match="CUDA GPUs, and none is here.*--precision 32-true.*--accelerator cpu"):
            config = train.TrainConfig(precision="16-mixed", accelerator=accelerator)
            train.train("gandl", store, tmp_path / "run", preset="small", config=config)
    assert not (tmp_path / "run").exists()
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: asked.append(1) or including_emulation
    )
    with pytest.raises(ValueError, match="Tesla T4 has no bfloat16.*--precision 16-mixed.*or 32-true"):
        train.check_precision("bf16-mixed")
    assert asked  # a device that only imitates it says yes when asked carelessly
    train.check_precision("32-true")
    train.check_precision("16-mixed")
    train.check_precision("bf16-mixed", "cpu")
    train.check_precision("16-mixed", "cpu")


@pytest.mark.parametrize("precision", list(train.PRECISIONS))
def test_every_precision_trains_and_leaves_the_same_tensors(store, tmp_path, precision):
    """Files, columns of the log, and names, shapes and kinds of weights, optimisers' included, do not depend on it."""
    made, plain = (run(store, tmp_path / name, precision=p) for name, p in (("made", precision), ("plain", "32-true")))
    for name in ("weights.safetensors", "state.safetensors"):
        a, b = tensors(made.with_name(name)), tensors(plain.with_name(name))
        assert {k: (t.shape, t.dtype) for k, t in a.items()} == {k: (t.shape, t.dtype) for k, t in b.items()}
        assert all(torch.isfinite(t).all() for t in a.values() if t.is_floating_point())
    files, logs = [], []
    for folder in (made.parent, plain.parent):
        files.append({path.relative_to(folder) for path in folder.rglob("*")})
        logs.append([list(line) for line in train.read_stats(folder)])
    assert files[0] == files[1] and logs[0] == logs[1]
    with pytest.raises(ValueError, match=f"precision was '{precision}'"):
        run(store, made.parent, precision=next(p for p in train.PRECISIONS if p != precision))


def test_gradients_that_no_scale_makes_finite_stop_the_run(store, tmp_path, monkeypatch):
    """Losses look well while every step is skipped, for ever: that must not pass for training."""
    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=2.0**-23))
    monkeypatch.setattr(gandl.losses, "discriminator_logistic", lambda real, fake: (0 * real).sqrt().mean())
    with pytest.raises(FloatingPointError, match="overflow at any scale"):
        run(store, tmp_path / "run", precision="16-mixed")
