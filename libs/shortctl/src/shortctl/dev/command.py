"""The command `shortctl dev`: starts a local stack and stops it on Ctrl-C."""

import ctypes
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from shortctl.dev.ports import PortsTakenError
from shortctl.dev.stack import Stack
from shortctl.dev.state import StateFolder, StateInUseError
from shortctl.embedded import ServerError
from shortctl.embedded.account import AccountError
from shortctl.terminal import print_message

LOCK_TIMEOUT_S = 5
"""Time for a run that is just ending to release the state folder."""

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def dev(
    state: Annotated[
        Path, typer.Option(help="Folder for data, logs and secrets; later runs use it again.")
    ] = Path(".state"),
    port_base: Annotated[
        int | None,
        typer.Option(min=1, max=65_528, help="First of eight consecutive ports. [default: 8000]"),
    ] = None,
    postgres_url: Annotated[
        str | None, typer.Option(help="Use this PostgreSQL instead of an embedded one.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="Use this Redis or Valkey instead of an embedded one.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show all log lines, not only warnings.")
    ] = False,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run the whole system on this machine until Ctrl-C.

    Starts PostgreSQL, Valkey, the writer, the relay, the worker and the redirector.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    if with_parent and sys.platform == "linux":
        # If `make` is killed, it cannot pass a signal on; the kernel sends one instead.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    folder = StateFolder(state)
    try:
        with folder.lock(timeout_s=LOCK_TIMEOUT_S):
            Stack(folder, stop, verbose=verbose).run(port_base, postgres_url, redis_url)
    except (ServerError, AccountError, StateInUseError, PortsTakenError, PermissionError) as error:
        if not stop.is_set():  # a start that was stopped may fail in any of these ways
            print_message(f"shortctl dev: {error}")
            raise typer.Exit(1) from None
