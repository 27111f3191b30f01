"""A process that we started: its whole tree can be stopped, killed, paused, and found again.

Each child notes its pid and start time in a file, so that the next run can tell a left-over
of a killed run from a stranger that got the same pid.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from shortctl.embedded.account import SELF, Account

# The kernel sends a death signal when the *thread* that forked ends. All children are forked
# by this one, which lives as long as the process, so they outlive a worker thread.
_forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")


class ServerError(Exception):
    """A server or part that does not start, or died; the message ends with its last lines."""


@dataclass(frozen=True)
class Mark:
    """What tells one process from a later one with the same pid. `created` in epoch seconds."""

    pid: int
    created: float

    def process(self) -> psutil.Process | None:
        """Return the process if it still lives."""
        try:
            process = psutil.Process(self.pid)
            # The kernel counts from boot; a corrected clock moves that by a little.
            return process if abs(process.create_time() - self.created) < 1 else None
        except psutil.NoSuchProcess:
            return None


class Child:
    """One process tree with its log file and its mark in `folder`/`name`.{log,pid}."""

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
        self._mark = folder / f"{name}.pid"
        self._account = account
        self._environment = environment
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id. Raises ServerError when it was never started."""
        if self._process is None:
            raise ServerError(f"{self.name} is not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None before its end."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it; returns at once."""
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
                # Ctrl-C in a terminal reaches us alone; we stop the parts in order.
                start_new_session=True,
                env=None if self._environment is None else dict(self._environment),
            ).result()
        mark = Mark(self.pid, psutil.Process(self.pid).create_time())
        self._mark.write_text(json.dumps(asdict(mark)))

    def stop(self, with_signal: int = signal.SIGTERM, *, within_s: float = 15) -> bool:
        """Ask it to end and wait; kills what is left then. Returns whether it ended itself."""
        if self._process is None:
            return True
        ended = True
        if self.running:
            self.resume()  # a paused process would hear of the signal only later
            self.send(with_signal)
            try:
                self._process.wait(within_s)
            except subprocess.TimeoutExpired:
                ended = False
                self.kill()
        self._mark.unlink(missing_ok=True)
        return ended

    def send(self, number: int) -> None:
        """Send a signal to the process itself, not to those below it."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End the process and all below it with no chance to tidy up, as a crash would."""
        if self._process is not None and self.running:
            kill_tree(psutil.Process(self.pid))
            self._process.wait()

    def pause(self) -> None:
        """Freeze the whole tree: sockets stay open, nothing is answered."""
        _signal_tree(psutil.Process(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        """Let the tree go on."""
        _signal_tree(psutil.Process(self.pid), signal.SIGCONT)

    def tail(self, lines: int = 15) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def left_over(self) -> int | None:
        """Return the pid of a still living process of a former run."""
        try:
            mark = Mark(**json.loads(self._mark.read_text()))
        except (FileNotFoundError, ValueError, TypeError):  # none, or cut off by a crash
            return None
        process = mark.process()
        return mark.pid if process is not None and _lives(process) else None

    def stop_left_over(self, with_signal: int = signal.SIGTERM, *, within_s: float = 15) -> bool:
        """End a still living process of a former run; returns whether there was one."""
        pid = self.left_over()
        if pid is None:
            return False
        stop_process(pid, with_signal, within_s=within_s)
        return True


def stop_all(children: Iterable[Child], *, within_s: float = 15) -> None:
    """Ask all to end at once, then wait for each: their drains take their time side by side."""
    started = [child for child in children if child.running]
    for child in started:
        child.send(signal.SIGTERM)
    for child in started:
        child.stop(within_s=within_s)


def stop_process(pid: int, with_signal: int, *, within_s: float) -> None:
    """End a process that is not our child, its tree with it, politely first."""
    try:
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
        for one in tree:
            one.resume()
        process.send_signal(with_signal)
    except psutil.NoSuchProcess:
        return
    deadline = time.monotonic() + within_s
    while _lives(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    for one in tree:
        if _lives(one):
            kill_tree(one)


def kill_tree(process: psutil.Process) -> None:
    """SIGKILL a process and its descendants, and wait until they are gone.

    PostgreSQL's backends are sessions of their own, so a process group would not reach them.
    """
    try:
        process.suspend()  # it forks nothing more while we look
        tree = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for one in tree:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    deadline = time.monotonic() + 5
    while any(_lives(one) for one in tree) and time.monotonic() < deadline:
        time.sleep(0.005)


def _signal_tree(process: psutil.Process, number: int) -> None:
    # Parents first when stopping: nothing is forked after its parent was looked at.
    try:
        process.send_signal(number)
        for child in process.children():
            _signal_tree(child, number)
    except psutil.NoSuchProcess:
        return


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
