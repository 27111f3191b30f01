"""Values that a client chooses cannot fill the logs, add lines or control the terminal."""

import json
import subprocess
import sys

import pytest

from shortcore.runtime.logging import MAX_TRACEBACK, MAX_VALUE, bounded

FORMATS = pytest.mark.parametrize("log_format", ["json", "console"])


def logged(log_format: str, statement: str) -> str:
    """Return the log of a separate process, because pytest captures the loggers of this one."""
    program = f"""
import logging
import structlog
from shortcore.runtime.logging import configure
configure("info", {log_format!r}, "test")
log = structlog.stdlib.get_logger("t")
{statement}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=60
    )
    return done.stderr.decode()


@FORMATS
@pytest.mark.parametrize(
    "value",
    ["'/' + 'a' * 60_000", "b'\\xff' * 60_000", "['x' * 60_000]", "{'k': 'y' * 60_000}"],
)
def test_a_long_value_is_cut_with_the_number_of_missing_characters(log_format, value):
    line = logged(log_format, f"log.info('request', path={value})")
    assert len(line) < 8 * MAX_VALUE  # JSON writes six characters for one beyond ASCII
    assert "more characters)" in line


@FORMATS
def test_a_long_message_of_another_library_is_cut(log_format):
    line = logged(log_format, "logging.getLogger('uvicorn.error').warning('bad: %s', 'b' * 60_000)")
    assert len(line) < 2 * MAX_VALUE
    assert "more characters)" in line


@FORMATS
def test_control_characters_of_a_value_do_not_reach_the_terminal(log_format):
    sent = "/a\x1b[31m\r\nFAKE line\x00\x9b\u2028\ud800"
    line = logged(log_format, f"log.info('request', path={sent!r})")
    assert line.count("\n") == 1
    assert "FAKE line" in line
    for character in "\r\x1b\x00\x9b\u2028\ud800":
        assert character not in line
        assert f"\\u{ord(character):04x}" not in line


def test_short_values_keep_their_types():
    line = logged("json", "log.info('e', status=200, names=['a', 'b'], ms=1.5, nothing=None)")
    event = json.loads(line)
    assert [event[name] for name in ("status", "names", "ms", "nothing")] == [
        200,
        ["a", "b"],
        1.5,
        None,
    ]


@FORMATS
def test_a_traceback_that_repeats_a_long_input_is_cut(log_format):
    line = logged(
        log_format,
        "try:\n    raise ValueError('c' * 200_000)\n"
        "except ValueError:\n    log.exception('failed', path='/x')",
    )
    assert "Traceback" in line
    assert "ValueError" in line
    assert len(line) < 2 * MAX_TRACEBACK


def test_a_cut_value_ends_with_the_number_of_missing_characters():
    assert bounded("a" * MAX_VALUE) == "a" * MAX_VALUE
    assert bounded("a" * (MAX_VALUE + 7)) == "a" * MAX_VALUE + "… (7 more characters)"
