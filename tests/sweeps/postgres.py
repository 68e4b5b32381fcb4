"""A PostgreSQL server of this machine's, for tests: its own folder, port and password. Needs Debian's postgresql."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sgdr_jax.cli.launch.local import free_port

PASSWORD = "a-secret"


@contextmanager
def server() -> Iterator[str]:
    """A server while the block runs; gives the URL of an empty database. Raises RuntimeError where none is installed or none gets ready."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not installed:
        raise RuntimeError("PostgreSQL is not installed; make test-postgres installs it")
    programs, port = installed[-1], free_port()
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    as_user = {"user": "postgres", "group": "postgres", "cwd": folder} if os.getuid() == 0 else {"cwd": folder}  # it refuses root
    try:
        (folder / "password").write_text(PASSWORD)
        for path in (folder, folder / "password") if os.getuid() == 0 else ():
            shutil.chown(path, "postgres", "postgres")
        how = ("-U", "tester", "--pwfile=password", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync")
        subprocess.run((programs / "initdb", "-D", "data", *how), check=True, stdout=subprocess.DEVNULL, **as_user)
        words = ("-D", "data", "-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
        with (folder / "log").open("w") as log:
            process = subprocess.Popen((programs / "postgres", *words), stdout=log, stderr=subprocess.STDOUT, **as_user)
        try:
            _ready(programs / "pg_isready", port, process, folder / "log")
            yield f"postgresql://tester:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ready(command: Path, port: int, process: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        if subprocess.run((command, "-q", "-h", "127.0.0.1", "-p", str(port))).returncode == 0:
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL does not get ready: {log.read_text()[-500:]}")
