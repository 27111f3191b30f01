"""A streaming replica of a test's own PostgreSQL, whose replay can be paused."""

import shutil
from pathlib import Path

from harness.databases import fetch
from harness.waiting import until
from shortctl.embedded import EmbeddedPostgres


def make_replica(primary: EmbeddedPostgres, folder: Path) -> EmbeddedPostgres:
    """Copy `primary` into `folder` and follow it; returns the running replica."""
    replica = EmbeddedPostgres(folder, options=dict(primary._options))
    folder.mkdir(mode=0o711)
    shutil.copy(primary._folder / "password", folder / "password")
    room = folder / "room"
    room.mkdir(mode=0o711)
    if replica._account.uid is not None:
        shutil.chown(room, replica._account.uid)
    copied = primary._account.run(
        [
            str(primary._bin / "pg_basebackup"),
            f"--dbname={primary.url}",
            f"--pgdata={room / 'data'}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
            "--no-sync",
        ]
    )
    assert copied.returncode == 0, copied.stdout
    (room / "data").rename(folder / "data")
    replica.start()
    return replica


def pause_replay(replica: EmbeddedPostgres) -> None:
    """Hold the replica at what it has; it goes on to answer and to receive."""
    fetch(replica.url, "SELECT pg_wal_replay_pause()")
    _until(replica, "SELECT pg_get_wal_replay_pause_state() = 'paused'")


def resume_replay(replica: EmbeddedPostgres) -> None:
    """Let it catch up."""
    fetch(replica.url, "SELECT pg_wal_replay_resume()")


def wait_caught_up(primary: EmbeddedPostgres, replica: EmbeddedPostgres) -> None:
    """Return when the replica has replayed all that the primary has written by now."""
    position = fetch(primary.url, "SELECT pg_current_wal_insert_lsn()::text")
    _until(replica, f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn")


def _until(server: EmbeddedPostgres, question: str) -> None:
    until(lambda: fetch(server.url, question), question)
