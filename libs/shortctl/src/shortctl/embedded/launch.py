"""Become the right user, promise to die with the parent, then become the wanted program.

Run as a script (`python -I -S launch.py ORDER`), never imported: it is the short moment
between fork and exec, spelled as a program so that nothing runs in a forked copy of a
process with threads, and so that no `setpriv` or new `unshare` has to be installed. The pid
stays the same throughout, as `exec` keeps it. Standard library only.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000  # linux/sched.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Follow the JSON order in the first argument; leaves only by exec or by an exception."""
    order = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if order["namespace_uid"] is not None:
        enter_user_namespace(libc, order["namespace_uid"])
    elif order["uid"] is not None:
        os.setgroups([])
        os.setresgid(order["uid"], order["uid"], order["uid"])
        os.setresuid(order["uid"], order["uid"], order["uid"])
    if order["death_signal"] is not None and sys.platform == "linux":
        # After the change of user, which clears it.
        libc.prctl(PR_SET_PDEATHSIG, order["death_signal"])
        if os.getppid() != order["parent"]:
            sys.exit("the parent has gone before the start")
    os.execv(order["argv"][0], order["argv"])  # noqa: S606  # the whole point


def enter_user_namespace(libc: ctypes.CDLL, uid: int) -> None:
    """Show our own user as `uid` from now on: outside nothing changes, nor do file rights."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "no user namespace to be had")
    # user_namespaces(7): a gid map may be written only once setgroups is denied.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{uid} {outer_gid} 1")


if __name__ == "__main__":
    main()
