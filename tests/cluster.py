"""A Slurm cluster on this machine: its own key, state, ports and processes, and nothing of it left afterwards.

    python tests/cluster.py install        what `make test-cluster` calls first: Slurm and munge, of Debian or Ubuntu

Real daemons (munged, slurmctld and a slurmd for each node) run as whoever calls, so jobs do too. Two nodes share the
machine's cores; their memory and their GPUs are only claimed, so that jobs can ask for what the profile asks for. There
is no accounting database: what works here works on the barest cluster.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
NODES = ("one", "two")
CONFIGURATION = """\
ClusterName=gandl
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
SlurmdTimeout=10
InactiveLimit=0
KillWait=2
BatchStartTimeout=60
GresTypes=gpu
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=ALL MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=256000 Gres=gpu:1"


def missing() -> str:
    """Why there can be no cluster here, in a sentence; empty where there can."""
    absent = [name for name in NEEDED if _which(name) is None]
    if absent:
        return f"no Slurm here ({', '.join(absent)}): `make test-cluster` as root of a Debian or Ubuntu installs it."
    if not sys.platform.startswith("linux"):
        return "Slurm's daemons run on Linux."
    return ""


def install() -> str:
    """Install what a cluster needs where that can be done; returns why not, in a sentence, or nothing."""
    if not missing():
        return ""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return missing()
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
        done = subprocess.run(["apt-get", *command], env=quiet, stdout=subprocess.DEVNULL)
        if done.returncode:
            return f"`apt-get {' '.join(command)}` failed with status {done.returncode}; its message is above."
    return missing()


def _which(name: str) -> str | None:
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def _free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@dataclass
class Cluster:
    """`with Cluster() as cluster` starts it and ends it; `cluster.environment` is for all commands that speak to it."""

    environment: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def __enter__(self) -> Cluster:
        self.folder = Path(tempfile.mkdtemp(prefix="gandl-slurm-", dir="/tmp"))  # a socket's path must be short
        self.folder.chmod(0o755)  # munge's library wants to reach the socket
        for made in ("state", *(f"spool.{node}" for node in NODES)):
            (self.folder / made).mkdir()
        host, ports = socket.gethostname().partition(".")[0], _free_ports(1 + len(NODES))
        cpus = max(2, os.cpu_count() or 2)
        nodes = [NODE.format(name=n, host=host, port=p, cpus=cpus) for n, p in zip(NODES, ports[1:], strict=True)]
        names = {"host": host, "ports": ports, "user": getpass.getuser(), "folder": self.folder}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(nodes="\n".join(nodes), **names))
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")  # a device that every machine has
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        self.environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        # Snakemake's plugin takes all that is called SLURM_ from the environment of the `srun` inside a job, this too.
        (self.folder / "bin").mkdir()
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {_which("srun")} "$@"\n')
        srun.chmod(0o755)
        self.environment["PATH"] = f"{self.folder}/bin:{self.environment['PATH']}"
        # What a batch job hands down to the commands of a test that runs inside one.
        self.environment = {k: v for k, v in self.environment.items() if k == "SLURM_CONF" or not k.startswith("SLURM")}
        try:
            self._start("munged", "--foreground", *self._munge_files(), "--num-threads=2")
            self._wait_for("munge's socket", (self.folder / "munge.socket").exists, "munged")
            self.start_controller()
            for name in NODES:
                self.start_node(name)
            self.wait_for_nodes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if "slurmctld" in self.processes:
            self.run("scancel", "--user", getpass.getuser(), timeout=20, check=False)
            begun = time.monotonic()
            while self.run("squeue", "--noheader", timeout=20, check=False) and time.monotonic() - begun < 20:
                time.sleep(0.2)
        for name in reversed([*self.processes]):
            self.kill(name, signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _munge_files(self) -> list[str]:
        named = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        return [f"--{option}={self.folder}/munge.{ending}" for option, ending in named.items()]

    def start_controller(self) -> None:
        self._start("slurmctld", "-D")
        self._wait_for("the controller", lambda: "UP" in self.run("scontrol", "ping", check=False), "slurmctld")

    def start_node(self, name: str) -> None:
        self._start("slurmd", "-D", "-N", name, called=name)

    def wait_for_nodes(self, names: tuple[str, ...] = NODES) -> None:
        def ready() -> bool:
            lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T", check=False).splitlines()
            return {name for name in NODES if f"{name} idle" in lines or f"{name} mixed" in lines} >= set(names)

        self._wait_for(f"node(s) {', '.join(names)}", ready, *names)

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End one daemon: `munged`, `slurmctld`, or the slurmd of a node by the node's name."""
        process = self.processes.pop(name)
        process.send_signal(how)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> str:
        """What one of Slurm's commands prints."""
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            if check:
                raise
            return ""
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def jobs(self, *states: str) -> list[dict[str, str]]:
        """The jobs that the controller knows, finished ones too: `id`, `state`, `comment`, `node`."""
        lines = self.run("squeue", "--noheader", f"--states={','.join(states) or 'all'}", "--format=%i|%T|%k|%N")
        return [dict(zip(("id", "state", "comment", "node"), x.split("|"), strict=True)) for x in lines.splitlines()]

    def said(self) -> str:
        """The last words of all daemons, for a failing test."""
        return "\n".join(f"{p.name}: {p.read_text()[-1500:]}" for p in sorted(self.folder.glob("*.log")))

    def _start(self, program: str, *arguments: str, called: str = "") -> None:
        with open(self.folder / f"{called or program}.out.log", "a") as out:
            self.processes[called or program] = subprocess.Popen(
                [_which(program) or program, *arguments], env=self.environment, stdout=out, stderr=out
            )

    def _wait_for(self, what: str, ready, *daemons: str, seconds: float = 60) -> None:
        begun = time.monotonic()
        while not ready():
            ended = [name for name in daemons if name in self.processes and self.processes[name].poll() is not None]
            if ended or time.monotonic() - begun > seconds:
                raise RuntimeError(f"{what} did not come up ({', '.join(ended) or 'no answer'}).\n{self.said()}")
            time.sleep(0.1)


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit(__doc__)
    why_not = install()
    print(why_not or "Slurm is here.", file=sys.stderr)
