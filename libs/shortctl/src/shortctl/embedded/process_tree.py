"""Signals to whole process trees, and a way to recognise a process that a killed run left."""

import signal
import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class ProcessIdentity:
    """A pid and the time at which the process started, in Unix seconds.

    A later process can have the same pid, but not the same start time.
    """

    pid: int
    created: float

    def process(self) -> psutil.Process | None:
        """Return the process, or None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            # The kernel counts the time from boot, so that setting the clock shifts it slightly.
            same = abs(process.create_time() - self.created) < 1
        except psutil.NoSuchProcess:
            return None
        return process if same and is_alive(process) else None


def stop_process(pid: int, with_signal: int, *, timeout_s: float) -> None:
    """Send a signal to a process that is not our child; kill its tree after `timeout_s`."""
    try:
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
        for each in tree:
            each.resume()
        process.send_signal(with_signal)
    except psutil.NoSuchProcess:
        return
    deadline = time.monotonic() + timeout_s
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    for each in tree:
        if is_alive(each):
            kill_tree(each)


def kill_tree(process: psutil.Process) -> None:
    """SIGKILL a process and its descendants, and wait until they have ended.

    PostgreSQL's backends are sessions of their own, so a process group would not reach them.
    """
    try:
        process.suspend()  # so that it starts no process while its descendants are listed
        tree = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for each in tree:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    deadline = time.monotonic() + 5
    while any(is_alive(each) for each in tree) and time.monotonic() < deadline:
        time.sleep(0.005)


def pause_tree(process: psutil.Process) -> None:
    """Stop a process and its descendants with SIGSTOP: sockets stay open, nothing answers."""
    _signal_tree(process, signal.SIGSTOP)


def resume_tree(process: psutil.Process) -> None:
    """Continue a process and its descendants with SIGCONT."""
    _signal_tree(process, signal.SIGCONT)


def is_alive(process: psutil.Process) -> bool:
    """Whether the process runs and is not a zombie."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal_tree(process: psutil.Process, number: int) -> None:
    # The parent first: a stopped parent starts no child after its children were listed.
    try:
        process.send_signal(number)
        for child in process.children():
            _signal_tree(child, number)
    except psutil.NoSuchProcess:
        return
