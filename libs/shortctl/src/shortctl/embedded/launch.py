"""Changes the user, asks for a signal when the parent ends, then executes a program.

This is a script (`python -I -S launch.py ORDER`) and not an importable module. It does the work
between fork and exec: no code runs in a forked copy of a process with threads, and neither
`setpriv` nor a recent `unshare` has to be installed. `exec` keeps the pid. The script uses only
the standard library.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000  # linux/sched.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Execute the program that the first argument describes in JSON."""
    order = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if order["namespace_uid"] is not None:
        enter_user_namespace(libc, order["namespace_uid"])
    elif order["uid"] is not None:
        os.setgroups([])
        os.setresgid(order["uid"], order["uid"], order["uid"])
        os.setresuid(order["uid"], order["uid"], order["uid"])
    if order["death_signal"] is not None and sys.platform == "linux":
        # After the change of the user, which would reset it.
        libc.prctl(PR_SET_PDEATHSIG, order["death_signal"])
        if os.getppid() != order["parent"]:
            sys.exit("the parent process ended before the program started")
    os.execv(order["argv"][0], order["argv"])  # noqa: S606  # the purpose of this script


def enter_user_namespace(libc: ctypes.CDLL, uid: int) -> None:
    """Enter a user namespace in which the current user has the id `uid`.

    This changes no ids outside the namespace and no permissions of files.
    """
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces are not permitted")
    # user_namespaces(7): a gid map may be written only once setgroups is denied.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{uid} {outer_gid} 1")


if __name__ == "__main__":
    main()
