"""The ports, the settings and the logs of a local stack."""

import socket

import pytest

from shortctl.dev import ports as dev_ports
from shortctl.dev.log_follower import LogFollower
from shortctl.dev.ports import Ports, PortsTakenError
from shortctl.dev.services import environment


def test_requested_ports_that_are_in_use_are_refused_by_number():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortsTakenError, match=rf"\b{port}\b.*--port-base"):
            Ports.choose(port, print)


def test_if_the_default_ports_are_in_use_the_next_free_ones_are_chosen_and_printed(monkeypatch):
    said = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(dev_ports, "DEFAULT_BASE", port)
        monkeypatch.setattr(dev_ports, "BASE_STEP", 7)
        ports = Ports.choose(None, said.append)
    assert ports.base > port
    assert str(port) in said[0]
    assert str(ports.base) in said[0]


def test_the_developers_environment_overrides_all_settings_except_addresses(tmp_path, monkeypatch):
    monkeypatch.setenv("SHORTLINKS_DEFAULT_DOMAIN", "go.example")
    monkeypatch.setenv("SHORTLINKS_WRITER_PORT", "1")
    settings = environment(Ports(9000), "postgresql://x", "redis://y", tmp_path / "secret")
    assert settings["SHORTLINKS_DEFAULT_DOMAIN"] == "go.example"
    assert settings["SHORTLINKS_WRITER_PORT"] == "9000"
    assert settings["SHORTLINKS_SHORT_URL_PORT"] == "9001"
    assert settings["SHORTLINKS_CODE_SECRET_FILE"] == str(tmp_path / "secret")


LOG = """2026-01-01T00:00:00Z [info     ] started
2026-01-01T00:00:01Z [warning  ] redis is slow
2026-01-01T00:00:02Z [info     ] request
2026-01-01T00:00:03Z [error    ] failed
Traceback (most recent call last):
  File "x.py", line 1
ValueError: no
2026-01-01T00:00:04Z [info     ] request
"""


@pytest.mark.parametrize("everything", [False, True])
def test_warnings_and_errors_are_shown_with_their_tracebacks(tmp_path, capsys, everything):
    log = tmp_path / "writer.log"
    log.write_text("")
    follower = LogFollower({"writer": log}, everything=everything)
    with log.open("a") as file:
        file.write(LOG[:60])  # the first part of a line
        file.flush()
        follower.show()
        file.write(LOG[60:])
    follower.close()
    shown = capsys.readouterr().out.splitlines()
    assert all(line.startswith("    writer | ") for line in shown)
    text = [line.removeprefix("    writer | ") for line in shown]
    lines = LOG.splitlines()
    assert text == (lines if everything else [lines[1], *lines[3:7]])
