"""SIGKILL at random moments: what is resumed ends in the same bits, and no name ever stands for part of a file.

A process of its own has all imports done and forks a child for every try; the child is killed after a random part of
the time that an undisturbed one took. `make test` kills each stage a few times, `make test-long` until there are more
than fifty deaths.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pytest
from plates import small

from gandl_lib import checkpoints

STAGES = ("shard", "train", "embed", "evaluate", "screen")
SHORT, LONG = 3, 12

DRIVER = '''
import functools, json, os, pathlib, signal, sys, time, types, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
from gandl_lib.screen import run as screen
from gandl_lib import cli, embed, explain, profiles, shards, train
from gandl_lib.screen import strip
from gandl_lib.shards import Shards
screen.PRESET = "tiny"
strip.IMAGES, strip.INVERTED, explain.N_STYLES = 8, 4, 200
inverted, crops, interval = explain.invert, explain.real_crops, explain.bootstrap.interval
explain.invert = lambda *some, **options: inverted(*some, steps=10, **options)
explain.bootstrap = types.SimpleNamespace(interval=functools.partial(interval, n_bootstrap=50))
explain.real_crops = lambda *some, **options: [x[::4] for x in crops(*some, **options)]

def shard(data, ready, out):
    shards.write(data, out / "screen.zarr", sites_per_shard=3)

def training(data, ready, out):
    config = train.TrainConfig(images=48, ticks=6)
    train.train("gandl", Shards(ready / "screen.zarr"), out / "run", preset="tiny", config=config)

def embedding(data, ready, out):
    cli.embed("intensity", ready / "screen.zarr", out / "intensity.h5ad")

def evaluate(data, ready, out):
    cli.evaluate("axes", (ready / "embeddings" / "intensity.h5ad", out / "axes.csv"))

def whole(data, ready, out):
    screen.screen(data, out / "screen", images=16)

stages = dict(shard=shard, train=training, embed=embedding, evaluate=evaluate, screen=whole)

def attempt(stage, wait, *folders):
    """Exit status of a child, killed after `wait` seconds if it lives so long; and how long it lived."""
    begun, child = time.monotonic(), os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(os.open(folders[-1] + ".log", os.O_CREAT | os.O_APPEND | os.O_WRONLY), 2)
        status = 1
        try:
            stages[stage](*map(pathlib.Path, folders))
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(status)
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status, time.monotonic() - begun

for line in sys.stdin:
    print(json.dumps(attempt(*json.loads(line))), flush=True)
'''


@pytest.fixture(scope="module")
def plate(tmp_path_factory) -> Path:
    return small(tmp_path_factory.mktemp("kill") / "data")


class Driver:
    """The process that forks and kills."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(Path(checkpoints.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", DRIVER], text=True, env=environment, **pipes)

    def run(self, stage: str, data: Path, ready: Path, out: Path, seconds: float | None = None) -> tuple[int, float]:
        """Let a stage run to its end, or for so many seconds: 0 or 9, and how long it lived."""
        out.mkdir(parents=True, exist_ok=True)
        asked = [stage, seconds, *map(str, (data, ready, out))]
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        status, lived = json.loads(self.process.stdout.readline())
        assert status in (0, 9), out.with_name(out.name + ".log").read_text()
        return status, lived


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.process.stdin.close()
    made.process.wait()
    made.process.stdout.close()


@pytest.fixture(scope="module")
def ready(driver, plate, tmp_path_factory) -> Path:
    """What the later stages start from: a whole screen, undisturbed."""
    folder = tmp_path_factory.mktemp("ready")
    assert driver.run("screen", plate, folder, folder)[0] == 0
    return folder / "screen"


def whole(path: Path) -> object:
    """What a file says, without the minutes that it took; an error if it is not all there."""
    if path.suffix == ".safetensors":
        tensors, header = checkpoints.read(path)
        return {name: t.numpy().tobytes() for name, t in tensors.items()} | {"header": _lasting(header)}
    if path.suffix == ".h5ad":
        found = anndata.read_h5ad(path)
        return np.asarray(found.X).tobytes(), found.obs.to_csv(), _lasting(json.loads(found.uns["provenance"]))
    if path.name in ("provenance.json", "stats.jsonl"):
        return [_lasting(json.loads(line)) for line in _lines(path)]
    return path.read_bytes()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]


def _lasting(value: object) -> object:
    """Without what depends on the clock, and on the sums of files that hold it."""
    if isinstance(value, dict):
        moving = ("minutes", "images_per_second", "peak_memory_MB", "checkpoint_sha256", "git_commit")
        return {k: _lasting(v) for k, v in value.items() if k not in moving}
    return value


def final_files(out: Path) -> dict[str, Path]:
    """Those under their own names: not in or called `*.partial`."""
    found = {str(p.relative_to(out)): p for p in sorted(out.rglob("*")) if p.is_file()}
    return {name: p for name, p in found.items() if ".partial" not in name}


GROWING = ("state.safetensors", "stats.jsonl")
"""Whole at every moment, but of another moment."""


def ordeal(driver: Driver, stage: str, data: Path, ready: Path, folder: Path, kills: int, seed: int) -> int:
    """Kill a stage until it has died `kills` times, then let it finish; returns the deaths."""
    status, seconds = driver.run(stage, data, ready, folder / "calm")
    assert status == 0
    expected = {name: whole(path) for name, path in final_files(folder / "calm").items()}
    rng, deaths, out = np.random.default_rng(seed), 0, folder / "killed"
    while deaths < kills:
        status, _ = driver.run(stage, data, ready, out, float(rng.uniform(0.02, 0.9)) * seconds)
        deaths += status == 9
        for name, path in final_files(out).items():
            now = whole(path)
            assert name in expected, f"{name} is left behind"
            assert Path(name).name in GROWING or now == expected[name], f"{name} is not what it will be"
        if status == 0:
            break
    assert driver.run(stage, data, ready, out)[0] == 0
    found = {name: whole(path) for name, path in final_files(out).items()}
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == expected[name], f"{name} differs from that of an undisturbed run"
    assert not [p for p in out.rglob("*.partial*")], "something half-made is left"
    return deaths


@pytest.mark.parametrize("stage", STAGES)
def test_killed_a_few_times(driver, plate, ready, tmp_path, stage):
    ordeal(driver, stage, plate, ready, tmp_path, SHORT, seed=0)


@pytest.mark.long
def test_more_than_fifty_deaths(driver, plate, ready, tmp_path):
    deaths = {}
    for stage in STAGES:
        seed = 0
        while deaths.get(stage, 0) < LONG:
            folder = tmp_path / f"{stage}{seed}"
            deaths[stage] = deaths.get(stage, 0) + ordeal(driver, stage, plate, ready, folder, LONG, seed)
            seed += 1
    assert sum(deaths.values()) > 50, deaths
