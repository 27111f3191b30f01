"""Prepare a virtual environment for an image: only files that run, compiled, reproducible.

`python finish.py ENVIRONMENT MODULE…` runs inside a build. All bytecode goes to
`ENVIRONMENT/bytecode` (PYTHONPYCACHEPREFIX), including that of the modules of the standard library
that are imported. Upstream images contain none, so on a read-only file system every start would
compile these modules again.
"""
# ruff: noqa: INP001  # a script of the build, not a package

import importlib.util
import os
import py_compile
import shutil
import struct
import subprocess
import sys
from pathlib import Path

# Sources of extension modules, type stubs and tests, which some wheels contain.
NEVER_IMPORTED = ("tests", "testing", "_testbase")
NEVER_RUN = {".c", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyi", ".pyx"}
HEALTHCHECK = "http.client"
IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*(getattr(module, "__file__", None) for module in list(sys.modules.values())), sep="\\n")
"""


def main() -> None:
    """Strip, compile, then give every file the same time and mode."""
    environment, *modules = sys.argv[1:]
    root = Path(environment)
    strip(root)
    sys.pycache_prefix = str(root / "bytecode")
    for source in sorted({*root.glob("lib/**/*.py"), *imported(modules)}):
        # Unchecked bytecode: the modification time of sources differs between builds.
        py_compile.compile(
            str(source),
            cfile=importlib.util.cache_from_source(str(source)),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    level(root, int(os.environ["SOURCE_DATE_EPOCH"]))


def strip(root: Path) -> None:
    """Remove what no service ever opens."""
    for script in (root / "bin").iterdir():
        if not script.name.startswith(("python", "shortlinks-")):
            script.unlink()
    for name in NEVER_IMPORTED:
        for folder in sorted(root.glob(f"lib/**/{name}")):
            shutil.rmtree(folder)
    for file in sorted(root.glob("lib/**/*")):
        if file.suffix in NEVER_RUN:
            file.unlink()
        elif ".so" in file.suffixes:
            file.write_bytes(loaded(file.read_bytes()))
    shutil.rmtree(root / "include", ignore_errors=True)


def loaded(library: bytes) -> bytes:
    """Return the part of a 64-bit ELF library that is loaded, without symbols for debuggers.

    The program headers name what the dynamic loader reads (elf(5)). Sections are for linkers and
    debuggers, and in some wheels they are three quarters of the file.
    """
    if library[:6] != b"\x7fELF\x02\x01":
        return library
    (first,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    end = first + size * count
    for header in range(first, end, size):
        (offset,) = struct.unpack_from("<Q", library, header + 8)
        (length,) = struct.unpack_from("<Q", library, header + 32)
        end = max(end, offset + length)
    # Remove the section headers, which would point beyond the end of the file.
    kept = bytearray(library[:end])
    struct.pack_into("<Q", kept, 40, 0)
    struct.pack_into("<HHH", kept, 58, 0, 0, 0)
    return bytes(kept)


def imported(modules: list[str]) -> set[Path]:
    """Return the source files that importing `modules` reads, the standard library's included."""
    found = subprocess.run(  # noqa: S603  # our own interpreter and names from the Dockerfile
        [sys.executable, "-c", IMPORT, *modules, HEALTHCHECK],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return {Path(line) for line in found.stdout.splitlines() if line.endswith(".py")}


def level(root: Path, time: int) -> None:
    """Give all files of `root` one time, and modes that do not depend on a umask."""
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (time, time), follow_symlinks=False)


main()
