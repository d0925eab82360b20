"""What two trainings on the same two cores leave each other, with threads that wait asleep and with threads that spin.

OpenMP's threads wait for each other at the end of every layer. By default they spin for a while: alone on a machine
that is fastest, but where two processes have two threads each on two cores, each spins on a core that the other could
use. `OMP_WAIT_POLICY=PASSIVE` (GNU's library also asks `GOMP_SPINCOUNT=0`) lets them sleep.

For each policy one process trains alone, then two at once; rates are images a second of each. The last column, what one
of two gets as a fraction of half of what it gets alone, is at best 1. Policies take turns, round by round; medians.

    python benchmarks/side_by_side.py --seconds 20
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import tyro

POLICIES = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
}


@dataclass(frozen=True)
class Args:
    preset: str = "quick32"
    seconds: float = 20.0
    """Of training, in each of a round's four measurements."""
    rounds: int = 3
    threads: int = 2


def work(preset: str, threads: int, seconds: float) -> None:
    """A worker: warm up, wait for a line on stdin, train for so many seconds, say how many images a second."""
    import torch

    from gandl_lib.methods import lookup

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    cls, config = lookup("gandl", preset)
    method = cls(config, 5)
    images = torch.rand(method.batch, 5, method.crop_px, method.crop_px) * 2 - 1
    for k in range(2):
        method.step(images, k * method.batch)
    print("ready", flush=True)
    sys.stdin.readline()
    n, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds:
        method.step(images, n)
        n += method.batch
    print(n / elapsed, flush=True)


def rates(policy: str, processes: int, args: Args) -> list[float]:
    """Images a second of each of so many processes that train at once."""
    unset = {name: value for name, value in os.environ.items() if name not in POLICIES["passive"]}
    command = [sys.executable, __file__, "--worker", args.preset, str(args.threads), str(args.seconds)]
    workers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=unset | POLICIES[policy]
        )
        for _ in range(processes)
    ]
    for worker in workers:
        if worker.stdout.readline() != "ready\n":
            sys.exit("a training did not start; its message is above.")
    for worker in workers:
        print(file=worker.stdin, flush=True)
    found = [float(worker.stdout.readline()) for worker in workers]
    for worker in workers:
        worker.communicate()
    return found


def main(args: Args) -> None:
    found = {policy: [] for policy in POLICIES}
    for _ in range(args.rounds):
        for policy in POLICIES:
            (alone,) = rates(policy, 1, args)
            found[policy].append((alone, statistics.mean(rates(policy, 2, args))))
    print("| waiting | alone img/s | each of two img/s | of half the rate alone |")
    print("|---|---|---|---|")
    for policy, rounds in found.items():
        alone, each = (statistics.median(r) for r in zip(*rounds, strict=True))
        share = statistics.median(2 * one / whole for whole, one in rounds)
        print(f"| {policy} | {alone:.1f} | {each:.1f} | {share:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    else:
        main(tyro.cli(Args, description=__doc__))
