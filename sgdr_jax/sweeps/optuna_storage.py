"""Optuna's storages, as the workers of a sweep need them: journals of whole lines, SQLite whose transactions lock, databases, proxies."""

from __future__ import annotations

import json
import os
import re
import warnings
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..core.machine import file_system

PROXY_SECONDS = 20
"""Seconds for Optuna's gRPC proxy to answer."""

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.storages.journal import BaseJournalBackend
    from sqlalchemy import Connection, Engine


def address(store: str) -> str:
    """Return what Optuna opens: a database URL, the path of a journal (.journal or .log), or else the URL of a SQLite file.

    Example:
        >>> address("runs/a.db"), address("a.journal")
        ('sqlite:///runs/a.db', 'a.journal')
    """
    return store if "://" in store or store.endswith((".journal", ".log")) else f"sqlite:///{store}"


NETWORKED = re.compile(r"nfs|cifs|smb|lustre|gpfs|beegfs|afs|ceph|gluster|panfs|wekafs|fuse\.(sshfs|s3fs|gcsfuse|juicefs)")
"""Beginnings of the names of file systems that several machines may mount."""


def check_disk(store: str) -> None:
    """Raise InputError for a SQLite file on a network file system, where its locks are not reliable.

    Source: SQLite's FAQ.
    """
    where = address(store)
    kind = file_system(Path(where.removeprefix("sqlite:///"))) if where.startswith("sqlite:///") else ""
    if NETWORKED.match(kind):
        journal = Path(where.removeprefix("sqlite:///")).with_suffix(".journal")
        raise InputError(f"--store {where} is SQLite on {kind}, which does not lock; use --store {journal}, or the URL of a database")


def open_storage(where: str) -> BaseStorage:
    """Open Optuna's storage at what `address` returns."""
    import optuna

    if "://" not in where:
        return optuna.storages.JournalStorage(_journal(where))
    if where.startswith("grpc://"):
        return _proxy(where)
    if where.startswith("sqlite"):
        from sqlalchemy.pool import NullPool

        # A connection for each transaction, so that none is left open.
        storage = optuna.storages.RDBStorage(where, engine_kwargs={"connect_args": {"timeout": 60}, "poolclass": NullPool})
        _serialise(storage.engine)
        return storage
    return optuna.storages.RDBStorage(where, engine_kwargs={"pool_pre_ping": True})


def _journal(where: str) -> BaseJournalBackend:
    """Return Optuna's journal, of which a full disk or a killed writer leaves whole lines only, so that the sweep can go on.

    Optuna appends to the piece of a line that such a writer has left, after which no one can read the file.
    """
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    class WholeLines(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
            own.acquire()
            try:
                with Path(where).open("r+b", buffering=0) as file:
                    size = _whole_lines(file)
                    file.truncate(size)
                    file.seek(size)
                    try:
                        while lines:
                            lines = lines[file.write(lines) :]
                        os.fsync(file.fileno())
                    except OSError as error:
                        file.truncate(size)
                        reason = f"cannot be written ({error.strerror})"
                        raise InputError(f"--store {where} {reason}; make room, then repeat the command") from None
            finally:
                own.release()

    # The lock is a link to the file, by whose time others see that its holder is gone. From the lock's own folder a relative path leads
    # nowhere, and they would ask for ever, without a pause.
    own = JournalFileSymlinkLock(os.path.abspath(where))
    return WholeLines(where, own)


def _whole_lines(file: RawIOBase) -> int:
    """Return the number of bytes up to the last line's end."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(end - 4096, 0)
        file.seek(start)
        if (newline := (file.read(end - start) or b"").rfind(b"\n")) >= 0:
            return start + newline + 1
        end = start
    return 0


def _proxy(where: str) -> BaseStorage:
    """Return the client of Optuna's gRPC proxy at grpc://HOST:PORT, which answers for many workers over few connections to a database."""
    from urllib.parse import urlsplit

    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import GrpcStorageProxy

    url = urlsplit(where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=url.hostname or "localhost", port=url.port or 13000)
    try:
        proxy.wait_server_ready(PROXY_SECONDS)
    except ConnectionError:
        raise InputError(f"no proxy answers there within {PROXY_SECONDS} s; start one with optuna.storages.run_grpc_proxy_server") from None
    return proxy


def _serialise(engine: Engine) -> None:
    """Make SQLite's transactions begin by taking the lock.

    Python's driver begins one at the first write only, so that two workers could both read that a try is waiting before either takes it.

    Source: SQLAlchemy's notes on pysqlite.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # closes the connections that were opened before
