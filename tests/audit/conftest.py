"""Databases of the audit: a file, and a PostgreSQL of the tests' own where one is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from assistant_queue.integrations.audit import SqlAudit
from tests.conftest import PATIENCE_S, free_port

POSTGRES = shutil.which("postgres")
OTHER_USER = "daemon"


class PostgresServer:
    """A PostgreSQL cluster; it refuses to run as root, so it runs as another user then."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._data = directory / "data"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._user = (
            {"user": OTHER_USER, "group": pwd.getpwnam(OTHER_USER).pw_gid} if _is_root() else {}
        )
        self.url = f"postgresql+psycopg://audit:a-secret@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Make the cluster."""
        if _is_root():
            shutil.chown(self._directory, OTHER_USER)
        password = self._directory / "password"
        password.write_text("a-secret")
        password.chmod(0o644)
        command = [str(shutil.which("initdb")), "-D", str(self._data), "-U", "audit", "-N"]
        more = ["--auth=scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C"]
        subprocess.run(
            [*command, *more], check=True, capture_output=True, cwd=self._directory, **self._user
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(POSTGRES), "-D", str(self._data), "-p", str(self.port), "-F"]
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *options],
                cwd=self._directory,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **self._user,
            )
        engine = sa.create_engine(self.url)
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                engine.connect().close()
                break
            except sa.exc.OperationalError:
                assert time.monotonic() < until, (self._directory / "log").read_text()
                assert self._process.poll() is None, (self._directory / "log").read_text()
                time.sleep(0.05)  # it says nothing when it is ready
        engine.dispose()

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _is_root() -> bool:
    return os.geteuid() == 0


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if POSTGRES is None or shutil.which("initdb") is None:
        pytest.skip("no PostgreSQL is installed")
    # Another user cannot reach the directories of pytest.
    with tempfile.TemporaryDirectory(prefix="audit-postgres-") as directory:
        server = PostgresServer(Path(directory))
        server.create()
        server.start()
        yield server
        server.kill()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'audit.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    engine = sa.create_engine(server.url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return server.url


@pytest.fixture
def audit(url: str) -> Iterator[SqlAudit]:
    """A sink with its tables."""
    sink = SqlAudit(url)
    assert sink.upgrade() == 0
    yield sink
    sink.close()


def rows_of(sink: SqlAudit, table: str) -> list[Any]:
    """Return all rows of a table, in the order of their keys."""
    found = sink.tables.metadata.tables[f"assistant_queue_{table}"]
    with sink.engine.connect() as connection:
        return list(connection.execute(sa.select(found).order_by(*found.primary_key)).mappings())
