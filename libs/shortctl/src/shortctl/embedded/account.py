"""Which user runs a server: PostgreSQL refuses root, and root's folders are closed to others.

As an ordinary user nothing is to be done, except in containers run as a bare number: initdb
asks for a user's name, which a user namespace (below) gives. As root, in this order:

1. A user namespace in which root is shown as an ordinary user. Nothing has to be copied,
   opened up or given away: binaries below `/root` and a state folder of any mode work as
   they are. Most containers and some hardened kernels forbid it, so it is tried out with the
   server binary itself.
2. Setuid to `nobody`, who must reach the binaries: where they lie in a closed folder (an
   environment below `/root`), they are copied into one of root's in `/var/tmp`. Data that
   would lie in a closed folder is put there as well, with a link at its place.
"""

import hashlib
import importlib.util
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

SHARED = Path("/var/tmp")  # noqa: S108  # who owns what we find there is checked
NOBODY_UID = 65534  # in every passwd file, and initdb asks for an entry there


@dataclass(frozen=True)
class Account:
    """Whom the server becomes; both None: who we are."""

    namespace_uid: int | None = None
    uid: int | None = None

    @property
    def file_owner(self) -> int:
        """The uid, seen from outside, that must own the server's files."""
        return os.geteuid() if self.uid is None else self.uid

    def run(self, argv: list[str], text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a short program as this account, with `text` on its standard input."""
        launcher = Path(__file__).with_name("launch.py")
        order = {
            **asdict(self),
            "death_signal": signal.SIGKILL if sys.platform == "linux" else None,
            "parent": os.getpid(),
            "argv": argv,
        }
        return subprocess.run(  # noqa: S603  # our own binaries
            [sys.executable, "-I", "-S", str(launcher), json.dumps(order)],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=120,
        )

    def can_run(self, program: Path) -> bool:
        """Whether the account reaches `program` and all its libraries."""
        return self.run([str(program), "--version"]).returncode == 0

    def can_enter(self, folder: Path) -> bool:
        """Whether the account reaches `folder` and what lies in it."""
        return self.run(["/bin/sh", "-c", 'cd "$0"', str(folder)]).returncode == 0


SELF = Account()
NAMESPACE = Account(namespace_uid=NOBODY_UID)
NOBODY = Account(uid=NOBODY_UID)


class AccountError(Exception):
    """Root finds no unprivileged way to run a server; the message says what to change."""


def choose(tree: Path, program: str) -> tuple[Account, Path]:
    """Return the account to run `tree`/`program` with, and where the tree lies for it.

    Raises AccountError when there is no way.
    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return SELF, tree
    if NAMESPACE.can_run(tree / program):
        return NAMESPACE, tree
    if os.geteuid() != 0:
        return SELF, tree  # initdb says what it misses
    return NOBODY, reachable_by_nobody(tree, program)


def reachable_by_nobody(tree: Path, program: str) -> Path:
    """Return `tree`, or a copy of it that nobody can run.

    Raises AccountError when not even the copy runs.
    """
    if NOBODY.can_run(tree / program):
        return tree
    copy = _copied(tree)
    tried = NOBODY.run([str(copy / program), "--version"])
    if tried.returncode != 0:
        raise AccountError(f"nobody cannot run {copy / program}: {tried.stdout.strip()}")
    return copy


def wheel(package: str) -> Path:
    """Return the folder of an installed package without importing it.

    The wheels' own modules start servers, pick folders and warn on import; we want the files.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise AccountError(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0])


def data_place(link: Path, account: Account) -> Path:
    """Return where the data of `link` really lies: elsewhere if the account cannot get there."""
    if link.is_symlink():
        return link.readlink()
    if account.uid is None or account.can_enter(link.parent):
        return link
    if link.exists():
        raise AccountError(
            f"{link} lies in a folder closed to the user nobody, whom root uses to run the "
            "server here: choose another place for the state"
        )
    folder = Path(tempfile.mkdtemp(prefix="shortlinks-data-", dir=SHARED))
    folder.chmod(0o711)
    link.symlink_to(folder / link.name)
    return folder / link.name


def give(path: Path, account: Account) -> None:
    """Make a file, or a folder and all in it, the account's own."""
    owner = account.file_owner
    if os.geteuid() == 0 and path.stat().st_uid != owner:
        for one in [path, *path.rglob("*")]:
            os.chown(one, owner, owner, follow_symlinks=False)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _copied(tree: Path) -> Path:
    # Named by what it was copied from, its time included: a new wheel makes a new copy.
    about = f"{tree}:{tree.stat().st_mtime_ns}:{tree.stat().st_ino}"
    digest = hashlib.sha256(about.encode()).hexdigest()[:12]
    target = SHARED / f"shortlinks-{tree.name}-{digest}"
    if not target.exists():
        staging = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        shutil.copytree(tree, staging, symlinks=True, dirs_exist_ok=True)
        for path in [staging, *staging.rglob("*")]:
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if executable else 0o644)
        try:
            staging.rename(target)
        except OSError:  # another run of ours came first
            shutil.rmtree(staging)
    if target.lstat().st_uid != 0 or target.is_symlink():
        raise AccountError(f"{target} belongs to somebody else: remove it")
    return target
