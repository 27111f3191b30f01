"""A child process whose whole tree can be stopped, killed and paused.

Each child writes its pid and start time to a file. With this file, a later run recognises the
process that a killed run left, even if another process has the same pid by then.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import psutil

from shortctl.embedded.account import SELF, Account
from shortctl.embedded.process_tree import (
    ProcessIdentity,
    kill_tree,
    pause_tree,
    resume_tree,
    stop_process,
)

# The kernel sends the death signal when the *thread* that forked the child ends. This thread
# forks all children and runs until the process ends, so a child outlives other threads.
_forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")


class ServerError(Exception):
    """A server or service did not start, or ended; the message ends with the end of its log."""


class Child:
    """A process tree, with its log and its pid file in `folder`/`name`.{log,pid}."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        *,
        account: Account = SELF,
        environment: Mapping[str, str] | None = None,
        death_signal: int | None = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.argv = [*argv]
        self.log = folder / f"{name}.log"
        self._pid_file = folder / f"{name}.pid"
        self._account = account
        self._environment = environment
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id. Raises ServerError before the first start."""
        if self._process is None:
            raise ServerError(f"{self.name} is not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, or the negative signal number; None until the process has ended."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process and return at once."""
        order = {
            **asdict(self._account),
            "death_signal": self._death_signal,
            "parent": os.getpid(),
            "argv": self.argv,
        }
        with self.log.open("ab") as log:
            self._process = _forker.submit(
                subprocess.Popen,
                [
                    sys.executable,
                    "-I",
                    "-S",
                    str(Path(__file__).with_name("launch.py")),
                    json.dumps(order),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal must reach only this process, which stops the children in order.
                start_new_session=True,
                env=None if self._environment is None else dict(self._environment),
            ).result()
        identity = ProcessIdentity(self.pid, psutil.Process(self.pid).create_time())
        self._pid_file.write_text(json.dumps(asdict(identity)))

    def stop(self, with_signal: int = signal.SIGTERM, *, timeout_s: float = 15) -> bool:
        """Send a signal, and kill the tree if the process has not ended after `timeout_s`.

        Returns whether the process ended before.
        """
        if self._process is None:
            return True
        ended = True
        if self.running:
            self.resume()  # a paused process would not handle the signal
            self.send(with_signal)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                ended = False
                self.kill()
        self._pid_file.unlink(missing_ok=True)
        return ended

    def send(self, number: int) -> None:
        """Send a signal to the process, but not to its descendants."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the process and its descendants, as a crash would end them."""
        if self._process is not None and self.running:
            kill_tree(psutil.Process(self.pid))
            self._process.wait()

    def pause(self) -> None:
        """Stop the whole tree with SIGSTOP: sockets stay open, nothing answers."""
        pause_tree(psutil.Process(self.pid))

    def resume(self) -> None:
        """Continue the whole tree after `pause`."""
        resume_tree(psutil.Process(self.pid))

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def left_over(self) -> int | None:
        """Return the pid of a process that an earlier run left running, or None."""
        try:
            identity = ProcessIdentity(**json.loads(self._pid_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):  # no file, or truncated by a crash
            return None
        return None if identity.process() is None else identity.pid

    def stop_left_over(self, with_signal: int = signal.SIGTERM, *, timeout_s: float = 15) -> bool:
        """Stop a process that an earlier run left running; returns whether there was one."""
        pid = self.left_over()
        if pid is None:
            return False
        stop_process(pid, with_signal, timeout_s=timeout_s)
        return True


def stop_all(children: Iterable[Child], *, timeout_s: float = 15) -> None:
    """Send SIGTERM to all children, then wait for each, so that they drain at the same time."""
    started = [child for child in children if child.running]
    for child in started:
        child.send(signal.SIGTERM)
    for child in started:
        child.stop(timeout_s=timeout_s)
