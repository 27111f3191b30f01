"""Creates the data folder of an embedded PostgreSQL, with one superuser and one database."""

import re
import shutil
from pathlib import Path

from shortctl.embedded.account import Account, give
from shortctl.embedded.child import ServerError

NAME = "shortlinks"
"""The name of the superuser and of the database."""

BUILTIN_LOCALE_SINCE = 17


def create_data(
    data: Path, password: str, *, account: Account, programs: Path, sync: bool = True
) -> None:
    """Create the folder `data` with the binaries in `programs`; `sync` flushes it to disk.

    Raises ServerError with the output of the program that failed.
    """

    def run(program: str, *arguments: str, text: str = "") -> str:
        done = account.run([str(programs / program), *arguments], text)
        if done.returncode != 0 or "ERROR:" in done.stdout:
            raise ServerError(f"{program} failed:\n{done.stdout.strip()}")
        return done.stdout

    # Renamed when complete, so that a killed start leaves no incomplete data.
    staging = data.with_name("data.new")
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(mode=0o700)
    password_file = data.with_name("initdb-password")
    password_file.write_text(password)
    give(staging, account)
    give(password_file, account)
    major = int(re.findall(r"\) (\d+)", run("postgres", "--version"))[0])
    run(
        "initdb",
        f"--pgdata={staging}",
        f"--username={NAME}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        *(
            ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
            if major >= BUILTIN_LOCALE_SINCE
            else ("--locale=C.UTF-8",)
        ),
        *(() if sync else ("--no-sync",)),
    )
    password_file.unlink()
    # The single-user mode needs neither a running server nor a password.
    run("postgres", "--single", "-D", str(staging), "postgres", text=f"CREATE DATABASE {NAME}\n")
    staging.rename(data)
