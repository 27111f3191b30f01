"""A rig a test: its own servers, each behind a proxy, so that everything may be broken."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.rig import Rig


@pytest.fixture
def rig(server_folder: Path) -> Iterator[Rig]:
    with Rig(server_folder) as rig:
        yield rig
