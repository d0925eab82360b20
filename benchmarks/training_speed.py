"""Images a second of GAN-DL against the plain-PyTorch reference, as a ratio measured in one run.

Each contender runs in a process of its own. They take turns iteration by iteration, so that a machine that speeds up
or slows down does it to all. A round is 16 iterations (one period of every lazy penalty) after a warm-up, and the ratio
is the median over rounds of reference time / our time. A turn also embeds one batch, timed on its own.

    python benchmarks/training_speed.py --resolutions 64 --widths 8192/128 --rounds 3

The first contender is what all are measured by. Whoever has a checkout of NVlabs/stylegan2-ada-pytorch can let it run
along as the last one; two more columns are then ratios to it (`peer_stylegan2_ada.py` says what it does differently):

    python benchmarks/training_speed.py --stylegan2-ada FOLDER
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

CONTENDERS = ("reference", "ours", "ours shared fakes", "ours bf16")
PEER = "stylegan2-ada-pytorch"
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}


@dataclass(frozen=True)
class Args:
    resolutions: tuple[int, ...] = (64, 128)
    widths: tuple[str, ...] = ("8192/128", "16384/256")
    batch: int = 16
    channels: int = 5
    rounds: int = 3
    threads: int = 2
    iterations: int = 16
    contenders: tuple[str, ...] = CONTENDERS
    stylegan2_ada: Path | None = None
    """A checkout of NVlabs/stylegan2-ada-pytorch, to run as one more contender."""


def contend(name: str, resolution: int, base: int, width_max: int, args: Args) -> None:
    """A worker: warm up, then take a turn for every number k on stdin: iteration k, and one batch to embed.

    Answers with the seconds of each.
    """
    import torch

    from gandl_lib.methods.gandl import GANDL, GANDLConfig, StyleGAN2Config

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    config = GANDLConfig(
        network=StyleGAN2Config(resolution, base, width_max), batch=args.batch, share_fakes=name == "ours shared fakes"
    )
    if name == "reference":
        from reference import Reference

        method = Reference(config, args.channels).to(device)
    elif name == PEER:
        from peer_stylegan2_ada import StyleGAN2ADA

        method = StyleGAN2ADA(config, args.channels, Path(args.stylegan2_ada), device)
    else:
        method = GANDL(config, args.channels).to(device)
    images = torch.rand(args.batch, args.channels, resolution, resolution, device=device) * 2 - 1
    cast = torch.autocast(device.type, torch.bfloat16, enabled=name.endswith("bf16"))

    def timed(work: Callable[[], object]) -> float:
        begun = time.perf_counter()
        with cast:
            work()
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    def turn(k: int) -> tuple[float, float]:
        return timed(lambda: method.step(images, k * args.batch)), timed(lambda: method.embed(images))

    with contextlib.redirect_stdout(sys.stderr):  # stdout is for answers, and a contender may talk as it sets up
        turn(0), turn(1)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(turn(int(line))), flush=True)


def main(args: Args) -> None:
    if unknown := set(args.contenders) - set(CONTENDERS):
        sys.exit(f"unknown contender {min(unknown)!r}; they are {', '.join(map(repr, CONTENDERS))}.")
    contenders, ratios = args.contenders, {"ratio": args.contenders[0]}
    if args.stylegan2_ada:
        if not (args.stylegan2_ada / "training" / "networks.py").is_file():
            sys.exit(f"{args.stylegan2_ada} is no checkout of {PEER}: it has no training/networks.py.")
        contenders, ratios = (*contenders, PEER), ratios | {f"to {PEER}": PEER}
    header = ["pixels", "widths", "contender", "train img/s", *ratios, "embed img/s", *ratios]
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for resolution in args.resolutions:
        for widths in args.widths:
            base, width_max = map(int, widths.split("/"))
            workers = {}
            for name in contenders:
                spec = json.dumps([name, resolution, base, width_max, vars(args)], default=str)
                workers[name] = subprocess.Popen(
                    [sys.executable, __file__, "--worker", spec],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **ALLOCATOR},
                )
                assert workers[name].stdout.readline() == "ready\n", f"{name} did not start"
            times = {name: [] for name in workers}  # of each round: seconds of training, of embedding
            for _ in range(args.rounds):
                turns = {name: [] for name in workers}
                for k in range(args.iterations):
                    for name, worker in workers.items():
                        print(k, file=worker.stdin, flush=True)
                        turns[name].append(json.loads(worker.stdout.readline()))
                for name, found in turns.items():
                    times[name].append([sum(part) for part in zip(*found, strict=True)])
            for worker in workers.values():
                worker.stdin.close()
                worker.wait()
            for name, found in times.items():
                row = [str(resolution), widths, name]
                for part in (0, 1):
                    median = statistics.median(t[part] for t in found)
                    row.append(f"{args.iterations * args.batch / median:.1f}")
                    for other in ratios.values():
                        pairs = zip(times[other], found, strict=True)
                        row.append(f"{statistics.median(r[part] / t[part] for r, t in pairs):.2f}")
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        name, resolution, base, width_max, settings = json.loads(sys.argv[2])
        contend(name, resolution, base, width_max, Args(**settings))
    else:
        main(tyro.cli(Args, description=__doc__))
