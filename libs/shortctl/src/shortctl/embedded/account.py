"""Chooses the user account that runs a server.

PostgreSQL refuses to run as root, and other users cannot read the folders of root.

An ordinary user runs the server itself. If its uid has no name, as in many containers, a user
namespace (below) provides the name that initdb needs. Root tries, in this order:

1. A user namespace in which root appears as an ordinary user. Binaries below `/root` and a state
   folder with any permissions work as they are. Most containers and some hardened kernels forbid
   user namespaces, so this is tested with the server binary.
2. Setuid to `nobody`. If `nobody` cannot read the binaries (a Python environment below `/root`),
   they are copied to a folder in `/var/tmp` that belongs to root. Data is also stored there if
   `nobody` cannot enter its folder; a symbolic link replaces the folder.
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

SHARED = Path("/var/tmp")  # noqa: S108  # the owner of an existing folder is checked
NOBODY_UID = 65534  # every passwd file has it, and initdb needs an entry there


@dataclass(frozen=True)
class Account:
    """The account of a server; without values, the account of this process."""

    namespace_uid: int | None = None
    uid: int | None = None

    @property
    def file_owner(self) -> int:
        """The uid, outside any user namespace, that must own the files of the server."""
        return os.geteuid() if self.uid is None else self.uid

    def run(self, argv: list[str], text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a program as this account, with `text` as its standard input, and wait for its end."""
        launcher = Path(__file__).with_name("launch.py")
        order = {
            **asdict(self),
            "death_signal": signal.SIGKILL if sys.platform == "linux" else None,
            "parent": os.getpid(),
            "argv": argv,
        }
        return subprocess.run(  # noqa: S603  # our binaries
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
        """Whether the account can run `program` with all its libraries."""
        return self.run([str(program), "--version"]).returncode == 0

    def can_enter(self, folder: Path) -> bool:
        """Whether the account can enter `folder`."""
        return self.run(["/bin/sh", "-c", 'cd "$0"', str(folder)]).returncode == 0


SELF = Account()
NAMESPACE = Account(namespace_uid=NOBODY_UID)
NOBODY = Account(uid=NOBODY_UID)


class AccountError(Exception):
    """No unprivileged account can run the server; the message says what to change."""


def choose(tree: Path, program: str) -> tuple[Account, Path]:
    """Return the account that runs `tree`/`program`, and the `tree` or a copy that it can read.

    Raises AccountError if no account can run the program.
    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return SELF, tree
    if NAMESPACE.can_run(tree / program):
        return NAMESPACE, tree
    if os.geteuid() != 0:
        return SELF, tree  # initdb prints what is missing
    return NOBODY, reachable_by_nobody(tree, program)


def reachable_by_nobody(tree: Path, program: str) -> Path:
    """Return `tree`, or a copy of it that the user `nobody` can run.

    Raises AccountError if the copy does not run either.
    """
    if NOBODY.can_run(tree / program):
        return tree
    copy = _copied(tree)
    tried = NOBODY.run([str(copy / program), "--version"])
    if tried.returncode != 0:
        raise AccountError(f"the user `nobody` cannot run {copy / program}: {tried.stdout.strip()}")
    return copy


def wheel(package: str) -> Path:
    """Return the folder of an installed package without importing the package.

    On import, the packages of the server wheels start servers, create folders and log warnings.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise AccountError(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0])


def data_place(link: Path, account: Account) -> Path:
    """Return the folder for data at `link`: another folder if the account cannot enter its parent.

    Then `link` becomes a symbolic link to that folder.
    """
    if link.is_symlink():
        return link.readlink()
    if account.uid is None or account.can_enter(link.parent):
        return link
    if link.exists():
        raise AccountError(
            f"{link} is in a folder that the user `nobody` cannot enter, and root runs the server "
            "as `nobody` here: choose another folder for the state"
        )
    folder = Path(tempfile.mkdtemp(prefix="shortlinks-data-", dir=SHARED))
    folder.chmod(0o711)
    link.symlink_to(folder / link.name)
    return folder / link.name


def give(path: Path, account: Account) -> None:
    """Make the account the owner of a file, or of a folder and its content."""
    owner = account.file_owner
    if os.geteuid() == 0 and path.stat().st_uid != owner:
        for each in [path, *path.rglob("*")]:
            os.chown(each, owner, owner, follow_symlinks=False)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _copied(tree: Path) -> Path:
    # The name depends on the path, time and inode of the original: a new wheel gets a new copy.
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
        except OSError:  # another process has made the copy meanwhile
            shutil.rmtree(staging)
    if target.lstat().st_uid != 0 or target.is_symlink():
        raise AccountError(f"{target} does not belong to root: remove it")
    return target
