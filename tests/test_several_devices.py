"""Two processes that share a batch learn what one process learns from the whole of it."""

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from gandl_lib import checkpoints, shards, train
from gandl_lib.methods import METHODS, lookup
from gandl_lib.methods.gandl import GANDL, GANDLConfig
from gandl_lib.nn.stylegan2 import StyleGAN2Config

CONFIG = GANDLConfig(
    network=StyleGAN2Config(resolution=16, width_base=64, width_max=16, latent=16), batch=8, lipschitz_weight=0.0
)

CLOSE = {"rtol": 1e-3, "atol": 1e-5}
"""Sums in another order; and Adam divides a gradient by its size, which magnifies what is near zero."""


class _Unused:
    world_size = 3


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="batch of 8 cannot be shared by 3"):
        train.share_between(_Unused, GANDL(CONFIG, 5))


@pytest.mark.parametrize(
    ("config", "why"),
    [(CONFIG, "looks at images in groups of 4"), (replace(CONFIG, ada_target=0.6), "has to see a batch as a whole")],
)
def test_what_would_be_another_training_is_refused(config, why, monkeypatch):
    monkeypatch.setattr(_Unused, "world_size", 4)
    with pytest.raises(ValueError, match=f"GANDL as configured {why}; to share 8 between 4 processes"):
        train.share_between(_Unused, GANDL(config, 5))


def test_only_a_method_that_says_so_is_shared(monkeypatch):
    monkeypatch.setattr(_Unused, "world_size", 2)
    for name, cls in METHODS.items():
        config = lookup(name, "tiny" if "tiny" in cls.presets else None)[1]
        if cls.trainable and cls is not GANDL and cls.together is None:
            method = SimpleNamespace(batch=8, together=cls.together, config=config)
            with pytest.raises(ValueError, match="has to see a batch as a whole"):
                train.share_between(_Unused, method)
    assert [n for n, c in METHODS.items() if c.trainable and c.together is not None] == ["gandl"]


def test_a_share_of_draws_is_that_of_the_whole_whatever_its_layout():
    images = torch.zeros(4, 3, 5, 7).to(memory_format=torch.channels_last)

    def draw(x: torch.Tensor) -> list[torch.Tensor]:
        torch.manual_seed(3)
        n = len(x)
        found = [torch.randn(n, 2), torch.rand((n, 30)), torch.randint(9, (n,)), torch.randint(1, 9, (n, 1))]
        return [*found, torch.randn_like(x), torch.rand_like(x[:, :, 0])]

    whole, shares = draw(torch.cat([images, images])), []
    for rank in range(2):
        with train.ShareOfDraws(rank, 2):
            shares.append(draw(images))
    for expected, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat(parts), expected)


STEPS = 2


def trained(store, run, devices: int = 1) -> tuple[dict, list[dict]]:
    """Weights and log after `STEPS` steps."""
    command = [sys.executable, "-m", "gandl_lib.cli", "train", "gandl", str(store), str(run)]
    options = ["--preset", "tiny", "--images", str(8 * STEPS), "--ticks", "1", "--accelerator", "cpu"]
    options += ["--devices", str(devices), "--threads", "1"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "srun" not in done.stderr, done.stderr
    return checkpoints.read(run / "weights.safetensors")[0], train.read_stats(run)


def test_two_processes_train_the_weights_of_one(make_screen, tmp_path, monkeypatch):
    """And nobody is warned of an srun that happens to be installed."""
    store = shards.write(make_screen(size=(32, 32)), tmp_path / "screen.zarr")
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{srun.parent}:{os.environ['PATH']}")
    expected, logged = trained(store, tmp_path / "one")
    found, log = trained(store, tmp_path / "two", devices=2)  # torchrun and srun: tests/test_cluster.py
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], **CLOSE, msg=lambda m, name=name: f"{name}: {m}")
    assert [line["n_seen"] for line in log] == [0, 8 * STEPS]
    for name in ("loss_d", "loss_g", "r1", "lipschitz", "path_length", "logit_real"):
        assert log[-1][name] == pytest.approx(logged[-1][name], rel=1e-4, abs=1e-6), name


ALONE = {
    "at a prompt": {},
    "in a batch script of two tasks": {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "train"},
    "in a step of one task": {"SLURM_NTASKS": "1", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "train"},
    "in an interactive shell": {"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "bash"},
}
AMONG_OTHERS = {
    "srun": {"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "train"},
    "torchrun": {"TORCHELASTIC_RUN_ID": "none"},
}


@pytest.mark.parametrize("where", [*ALONE, *AMONG_OTHERS])
def test_only_srun_and_torchrun_start_the_processes_of_a_run(where, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM", "TORCHELASTIC"))]:
        monkeypatch.delenv(name)
    for name, value in (ALONE | AMONG_OTHERS)[where].items():
        monkeypatch.setenv(name, value)
    assert bool(train._launcher()) == (where in ALONE)
