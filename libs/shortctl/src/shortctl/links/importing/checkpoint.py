"""The checkpoint of an import: its progress, in a file from which `--resume` continues."""

from pathlib import Path

import msgspec


class Checkpoint(msgspec.Struct, frozen=True):
    """The progress of an import: batches done, the key of the last batch, and counts of rows.

    `already_created` links were created by an earlier import of the same rows. `salt` makes the
    keys of an import with `--create-again` different from those of the earlier import.
    """

    batches: int = 0
    key: str = ""
    created: int = 0
    failed: int = 0
    already_created: int = 0
    salt: str = ""


class CheckpointFile:
    """The checkpoint file next to the input file; without a path, nothing is saved."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> Checkpoint | None:
        """Return the saved checkpoint, or None. Raises ValueError if the file is not valid."""
        if self._path is None or not self._path.exists():
            return None
        return msgspec.json.decode(self._path.read_bytes(), type=Checkpoint)

    def save(self, checkpoint: Checkpoint) -> None:
        """Save `checkpoint`."""
        if self._path is not None:
            staging = self._path.with_name(self._path.name + ".new")
            staging.write_bytes(msgspec.json.encode(checkpoint))
            staging.replace(self._path)

    def remove(self) -> None:
        """Remove the file, once the import is complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
