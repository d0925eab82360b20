"""Two processes that share a batch learn what one process learns from the whole of it."""

import os
import socket
import subprocess
import sys

import pytest
import torch
import torch.multiprocessing as mp

from gandl_lib import shards, train
from gandl_lib.methods.gandl import GANDL, GANDLConfig
from gandl_lib.nn.stylegan2 import StyleGAN2Config

CONFIG = GANDLConfig(
    network=StyleGAN2Config(resolution=16, width_base=64, width_max=16, latent=16), batch=8, lipschitz_weight=0.0
)


def _one_step(rank: int, world: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    torch.manual_seed(0)
    method = GANDL(CONFIG, 5)
    real, fake = torch.randn(2, 8, 5, 16, 16).split(1)
    mine = slice(rank * 8 // world, (rank + 1) * 8 // world)

    class Fabric:  # the three things that `share_between` asks of it
        world_size = world

        @staticmethod
        def all_reduce(tensor, reduce_op):
            assert reduce_op == "mean"
            torch.distributed.all_reduce(tensor)
            return tensor / world

    share = train.share_between(Fabric, method)
    method._step_discriminator(real[0, mine], fake[0, mine], iteration=0)
    share()
    gradients = {name: p.grad for name, p in method.discriminator.named_parameters()}
    if rank == 0:
        torch.save(gradients | {"stddev": method.discriminator.real_stddev}, out)
    if world > 1:
        torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_gradients_of_two_processes_are_those_of_one_on_the_joined_batch(tmp_path):
    _one_step(0, 1, 0, str(tmp_path / "one"))
    mp.spawn(_one_step, args=(2, _free_port(), str(tmp_path / "two")), nprocs=2)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_a_batch_that_cannot_be_shared_is_refused():
    class Fabric:
        world_size = 3

    with pytest.raises(ValueError, match="batch of 8 cannot be shared by 3"):
        train.share_between(Fabric, GANDL(CONFIG, 5))


def test_the_command_trains_on_two_processes(make_screen, tmp_path):
    store = shards.write(make_screen(size=(32, 32)), tmp_path / "screen.zarr")
    command = [sys.executable, "-m", "gandl_lib.cli", "train", "gandl", str(store), str(tmp_path / "run")]
    options = ["--preset", "tiny", "--images", "16", "--ticks", "2", "--accelerator", "cpu", "--devices", "2"]
    done = subprocess.run([*command, *options, "--threads", "1"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    stats = train.read_stats(tmp_path / "run")
    assert [line["n_seen"] for line in stats] == [0, 8, 16]
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_nobody_is_warned_of_an_srun_that_happens_to_be_installed(make_screen, tmp_path):
    store = shards.write(make_screen(size=(32, 32)), tmp_path / "screen.zarr")
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environment["PATH"] = f"{srun.parent}:{environment['PATH']}"
    command = [sys.executable, "-m", "gandl_lib.cli", "train", "gandl", str(store), str(tmp_path / "run")]
    options = ["--preset", "tiny", "--images", "8", "--ticks", "1", "--accelerator", "cpu", "--threads", "1"]
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "srun" not in done.stderr, done.stderr
    assert (tmp_path / "run" / "weights.safetensors").exists()


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
