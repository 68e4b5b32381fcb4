"""A Slurm cluster of this one machine as two nodes, for tests: its own key, ports and folder, so that it meets no other cluster.

Needs Debian's slurm-wlm and munge, and root.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
KillWait=5
ReturnToService=2
NodeName={host} NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 State=UNKNOWN
NodeName={host}-b NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 State=UNKNOWN
PartitionName=main Nodes={host},{host}-b Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A cluster in an empty folder while the block runs; gives the environment that its commands need. Raises RuntimeError when it does
    not get ready."""
    host = socket.gethostname().partition(".")[0]
    ports = _free_ports(3)
    config, key, sock = folder / "slurm.conf", folder / "munge.key", folder / "munge.socket"
    config.write_text(CONFIG.format(host=host, folder=folder, ports=ports))
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    for name in ("state", f"spool-{host}", f"spool-{host}-b"):
        (folder / name).mkdir()
    environment = os.environ | {"SLURM_CONF": str(config)}
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed", "key")]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={sock}", *files],
        ["slurmctld", "-D", "-c", "-f", str(config)],
        *(["slurmd", "-D", "-c", "-f", str(config), "-N", node] for node in (host, f"{host}-b")),
    ]
    began: list[subprocess.Popen[bytes]] = []
    try:
        for i, words in enumerate(daemons):
            with (folder / f"{i}-{words[0]}.out").open("wb") as out:
                began.append(subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env=environment))
            _until(lambda: sock.exists(), began, folder)
        _until(lambda: _said(["sinfo", "-h", "-o", "%T %D"], environment) == "idle 2", began, folder)
        yield environment
    finally:
        if all(daemon.poll() is None for daemon in began):
            _end_jobs(environment)
        for daemon in reversed(began):
            daemon.terminate()
        for daemon in reversed(began):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _end_jobs(environment: dict[str, str]) -> None:
    """Cancel all jobs and wait until their steps have ended: steps outlive the daemons, which can so be started anew."""
    subprocess.run(["scancel", "--user", "root"], env=environment, timeout=30)
    end = time.monotonic() + 30  # after KillWait seconds they are killed
    while _said(["squeue", "-h"], environment) and time.monotonic() < end:
        time.sleep(0.2)


def _said(words: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=30)
    return done.stdout.strip()


def _until(ready, began: list[subprocess.Popen[bytes]], folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end or any(daemon.poll() is not None for daemon in began):
            logs = "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(folder.glob("*.out")))
            raise RuntimeError(f"the cluster did not get ready\n{logs}")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
