"""The stack that runs in this working directory, as `shortctl dev` describes it in a file.

With this file, other commands need no addresses and no API key.
"""

from pathlib import Path

import msgspec

from shortctl.terminal import fail

DEV_FILE = Path(".state/dev.json")


class RunningStack(msgspec.Struct, frozen=True):
    """The content of `dev.json`: URLs, an API key, and the pid of each process of the stack."""

    writer_url: str
    redirector_url: str
    writer_admin_url: str
    redirector_admin_url: str
    relay_admin_url: str
    worker_admin_url: str
    postgres_url: str
    redis_url: str
    api_key: str
    pids: dict[str, int]


def running_stack() -> RunningStack | None:
    """Return the stack of this working directory, or None if none runs.

    Ends the command if the file is not valid.
    """
    try:
        return msgspec.json.decode(DEV_FILE.read_bytes(), type=RunningStack)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        fail(f"{DEV_FILE} is not valid: {error}")
