"""`shortctl clicks rejected` lists the entries that no worker could read, and deletes them."""

import base64
import json

import pytest
from harness.databases import fetch

DATA = b"\x00\xff no batch"


@pytest.fixture
def entries(database_url):
    fetch(
        database_url,
        "INSERT INTO clicks_rejected (stream, entry, reason, data, rejected_at) "
        "SELECT n % 4, n || '-0', 'not a batch: ' || n, '\\x00ff' || ' no batch'::bytea, "
        "'2026-11-30 12:00Z' FROM generate_series(1, 120) AS n RETURNING 1",
    )


def count(url):
    return fetch(url, "SELECT count(*) FROM clicks_rejected")


def test_all_entries_are_listed_with_their_reason(admin, entries, database_url):
    listed = admin("clicks", "rejected")
    assert listed.exit_code == 0, listed.output
    lines = listed.stdout.splitlines()
    assert lines[0].split() == ["id", "rejected", "stream", "entry", "bytes", "reason"]
    assert [line.split("not a batch: ")[1].strip() for line in lines[1:]] == [
        str(n) for n in range(1, 121)
    ]
    assert lines[1].split()[1:6] == ["2026-11-30", "12:00", "1", "1-0", str(len(DATA))]
    assert count(database_url) == 120


def test_json_has_an_object_per_line_with_the_bytes_of_the_entry(admin, entries):
    lines = admin("clicks", "rejected", "--json").stdout.splitlines()
    assert len(lines) == 120
    first = json.loads(lines[0])
    assert base64.b64decode(first.pop("data")) == DATA
    assert first.pop("id") > 0
    assert first == {
        "stream": 1,
        "entry": "1-0",
        "reason": "not a batch: 1",
        "rejected_at": "2026-11-30T12:00:00Z",
    }


def test_printed_entries_can_be_deleted(admin, entries, database_url):
    deleted = admin("clicks", "rejected", "--delete")
    assert "not a batch: 120" in deleted.stdout
    assert "120 entries deleted" in deleted.stderr
    assert count(database_url) == 0


def test_without_entries_nothing_is_deleted(admin):
    listed = admin("clicks", "rejected", "--json", "--delete")
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", "")
