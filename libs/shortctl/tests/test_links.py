import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from harness.databases import fetch
from harness.stopwatch import Stopwatch

from shortcore.links.rows import FIELDS, Format, UnreadableError, read_rows
from shortctl.api.connection import Connection, NoResponse
from shortctl.links.importing import batches, importer, sender
from shortctl.links.importing.checkpoint import CheckpointFile
from shortctl.links.rows import write_rows


def rows(text, form=Format.CSV):
    return list(read_rows(io.BytesIO(text.encode()), form))


def count(writer):
    return fetch(writer.postgres_url, "SELECT count(*) FROM links")


def links_file(tmp_path, number, name="links.csv"):
    path = tmp_path / name
    lines = [f"https://example.com/{n},Title {n}" for n in range(number)]
    path.write_text("\n".join(["target,title", *lines]) + "\n")
    return path


# --- rows


def test_cells_become_fields_of_the_api():
    (row,) = rows(
        "target,code,redirect_status,tags,forward_query,title\n"
        'https://a.example/,x,301,"a, b",yes,"two\nlines"\n'
    )
    assert row.item == {
        "target": "https://a.example/",
        "code": "x",
        "redirect_status": 301,
        "tags": ["a", "b"],
        "forward_query": True,
        "title": "two\nlines",
    }


def test_the_line_of_a_row_is_its_first_line():
    found = rows('target,title\nhttps://a.example/,"1\n2"\n\nhttps://b.example/,x\n')
    assert [row.line for row in found] == [2, 5]


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        ("target,max_visits\nhttps://a.example/,many\n", "max_visits", "type"),
        ("target,forward_path\nhttps://a.example/,perhaps\n", "forward_path", "type"),
        ("target\nhttps://a.example/,extra\n", "", "columns"),
    ],
)
def test_an_invalid_cell_is_a_fault_of_its_row(text, field, rule):
    (row,) = rows(text)
    (fault,) = row.faults
    assert (fault.line, fault.field, fault.rule) == (2, field, rule)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("link,title\n", "unknown column: link"),
        ("title\nx\n", "target"),
        ("target,target\n", "twice"),
        ("", "target"),
    ],
)
def test_an_invalid_header_stops_the_import(text, why):
    with pytest.raises(UnreadableError, match=why):
        rows(text)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('target,title\nhttps://a.example/,"a"b\n', "line 2"),
        ('target,title\n,"two\nlines"\n,"not closed\n\n', "line 4"),
    ],
)
def test_an_invalid_quote_stops_the_import_with_the_line_of_its_row(text, where):
    with pytest.raises(UnreadableError, match=where):
        rows(text)


def test_a_file_that_is_not_utf8_stops_the_import(tmp_path):
    with pytest.raises(UnreadableError, match="UTF-8"):
        list(read_rows(io.BytesIO(b"target\nhttps://a.example/\xff\n"), Format.CSV))


@pytest.mark.parametrize("line", ["nonsense", "[1]", '"text"', "{"])
def test_a_line_that_is_not_a_json_object_is_a_fault_of_its_row(line):
    first, second = rows(f'{line}\n{{"target": "https://a.example/"}}\n', Format.JSONL)
    assert first.faults[0].line == 1
    assert second.item == {"target": "https://a.example/"}


@pytest.mark.parametrize("form", list(Format))
def test_rows_that_were_written_can_be_read_again(form):
    link = dict.fromkeys(FIELDS) | {
        "target": 'https://a.example/?q="x",y',
        "code": "a-b",
        "redirect_status": 308,
        "forward_query": True,
        "forward_path": False,
        "tags": ["x", "y"],
        "note": "line one\nline, two",
    }
    out = io.StringIO()
    assert write_rows(out, form, [link]) == 1
    (row,) = rows(out.getvalue(), form)
    assert row.item == {name: value for name, value in link.items() if value is not None}


def test_equal_batches_of_one_file_have_different_keys_and_the_same_file_has_the_same_keys(
    monkeypatch,
):
    monkeypatch.setattr(batches, "BATCH_ROWS", 2)
    text = "target\n" + "https://a.example/\n" * 6
    keys = [batch.key for batch in batches.batches(rows(text))]
    assert len(set(keys)) == 3
    assert keys == [batch.key for batch in batches.batches(rows(text))]


# --- one link


def test_a_link_is_created_shown_edited_deleted_and_restored(shortctl, writer):
    made = shortctl("links", "create", "https://example.com/a", "--code", "mine", "--tag", "t")
    assert made.exit_code == 0, made.output
    assert made.stdout.strip().endswith("go.example/mine")
    shown = json.loads(shortctl("links", "get", "go.example/mine", "--json").stdout)
    assert (shown["target"], shown["tags"]) == ("https://example.com/a", ["t"])
    edited = shortctl(
        "links", "edit", made.stdout.strip(), "--title", "New", "--clear", "tags", "--json",
        "--if-version", shown["version"],
    )  # fmt: skip
    assert edited.exit_code == 0, edited.output
    assert json.loads(edited.stdout)["title"] == "New"
    assert json.loads(edited.stdout)["tags"] == []
    stale = shortctl(
        "links", "edit", "go.example/mine", "--title", "x", "--if-version", shown["version"]
    )
    assert stale.exit_code == 1
    assert "current version" in stale.stderr
    assert shortctl("links", "delete", "go.example/mine").exit_code == 0
    assert "mine" not in shortctl("links", "list").stdout
    assert shortctl("links", "restore", "go.example/mine").exit_code == 0
    assert "mine" in shortctl("links", "list").stdout


def test_a_refusal_names_the_field_and_shows_no_traceback(shortctl, writer):
    refused = shortctl("links", "create", "not a url")
    assert refused.exit_code == 1
    assert "/target" in refused.stderr
    assert "Traceback" not in refused.output
    missing = shortctl("links", "get", "go.example/none")
    assert (missing.exit_code, missing.stdout) == (1, "")


def test_a_missing_address_a_missing_key_and_an_unavailable_api_are_reported_in_a_sentence(
    shortctl,
):
    assert "SHORTCTL_URL" in shortctl("links", "list").stderr
    assert "SHORTCTL_KEY" in shortctl("links", "list", "--url", "http://127.0.0.1:1").stderr
    unavailable = shortctl("links", "list", "--url", "http://127.0.0.1:1", "--key", "k")
    assert (unavailable.exit_code, "does not answer" in unavailable.stderr) == (1, True)


# --- import and export


def test_an_import_creates_every_row_and_a_second_run_creates_none(shortctl, writer, tmp_path):
    path = links_file(tmp_path, 2345)
    done = shortctl("links", "import", path)
    assert done.exit_code == 0, done.output
    assert "2345 links created, 0 rows failed" in done.stderr
    assert count(writer) == 2345
    again = shortctl("links", "import", path)
    assert again.exit_code == 0
    assert "0 links created, 0 rows failed" in again.stderr
    assert "2345 links were already created by an earlier import" in again.stderr
    assert count(writer) == 2345
    assert not (tmp_path / "links.csv.import").exists()


def test_an_import_can_create_its_rows_again_and_be_resumed(
    shortctl, writer, tmp_path, monkeypatch
):
    path = links_file(tmp_path, 300)
    monkeypatch.setattr(batches, "BATCH_ROWS", 100)
    assert shortctl("links", "import", path).exit_code == 0
    with monkeypatch.context() as cut:
        cut.setattr(CheckpointFile, "remove", CheckpointFile.load)
        done = shortctl("links", "import", path, "--create-again")
    assert "300 links created, 0 rows failed" in done.stderr
    assert count(writer) == 600
    kept = tmp_path / "links.csv.import"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"batches": 0, "created": 0}))
    assert "300 links created" in shortctl("links", "import", path, "--resume").stderr
    assert count(writer) == 600


def test_passwords_are_imported_in_batches_of_the_apis_limit(shortctl, writer, tmp_path):
    path = tmp_path / "links.csv"
    path.write_text(
        "target,password\n" + "".join(f"https://example.com/{n},p{n}\n" for n in range(230))
    )
    done = shortctl("links", "import", path)
    assert done.exit_code == 0, done.output
    assert "230 links created, 0 rows failed" in done.stderr
    assert count(writer) == 230


@pytest.mark.parametrize("writer", [{"BODY_MAX_BYTES": 20_000}], indirect=True)
def test_a_batch_over_the_limit_of_the_server_is_halved_and_a_row_over_it_is_reported(
    shortctl, writer, tmp_path
):
    path = tmp_path / "links.jsonl"
    rows = [{"target": f"https://example.com/{n}", "note": "n" * 1000} for n in range(300)]
    rows[250]["note"] = "n" * 30_000
    path.write_text("\n".join(json.dumps(row) for row in rows))
    done = shortctl("links", "import", path, "--errors", tmp_path / "errors.csv")
    assert done.exit_code == 1, done.output
    assert "299 links created, 1 rows failed" in done.stderr
    assert count(writer) == 299
    with (tmp_path / "errors.csv").open() as file:
        faults = [(row["line"], row["rule"], row["detail"]) for row in csv.DictReader(file)]
    assert faults == [("251", "body-too-large", "The body may have at most 20000 bytes.")]
    again = shortctl("links", "import", path)
    assert "299 links were already created" in again.stderr
    assert count(writer) == 299


def test_failed_rows_are_reported_and_all_others_are_imported(shortctl, writer, tmp_path):
    path = tmp_path / "links.csv"
    path.write_text(
        "target,code,max_visits\n"
        "https://example.com/1,one,\n"
        "javascript:alert(1),two,\n"
        "https://example.com/3,api,\n"
        "https://example.com/4,four,lots\n"
        "https://example.com/5,one,\n"
        "https://example.com/6,six,\n"
    )
    done = shortctl("links", "import", path, "--errors", tmp_path / "errors.csv")
    assert done.exit_code == 1
    assert "2 links created, 4 rows failed" in done.stderr
    with (tmp_path / "errors.csv").open() as file:
        faults = [(int(row["line"]), row["field"], row["rule"]) for row in csv.DictReader(file)]
    assert faults == [
        (3, "target", "scheme"),
        (4, "code", "reserved"),
        (5, "max_visits", "type"),
        (6, "code", "taken"),
    ]


def test_a_dry_run_reports_faults_and_sends_nothing(shortctl, tmp_path):
    path = tmp_path / "links.csv"
    path.write_text(
        "target,code,redirect_status\nhttps://example.com/1,one,301\nftp://x.example/,a b,303\n"
    )
    done = shortctl("links", "import", path, "--dry-run", "--errors", tmp_path / "errors.csv")
    assert done.exit_code == 1
    assert "1 links would be created, 1 rows failed" in done.stderr
    with (tmp_path / "errors.csv").open() as file:
        found = {(row["field"], row["rule"]) for row in csv.DictReader(file)}
    assert found == {("target", "scheme"), ("code", "charset"), ("redirect_status", "choice")}


def test_an_interrupted_import_is_resumed_and_creates_nothing_twice(
    shortctl, writer, tmp_path, monkeypatch
):
    path = links_file(tmp_path, 950)
    monkeypatch.setattr(batches, "BATCH_ROWS", 100)
    monkeypatch.setattr(sender, "TRIES", 1)
    sent = []
    send = Connection.send

    def failing(self, method, place, content, headers):
        sent.append(headers["idempotency-key"])
        response = send(self, method, place, content, headers)
        if len(sent) > 5:
            raise NoResponse("cut")  # the response is lost after the links were created
        return response

    with monkeypatch.context() as cut:
        cut.setattr(Connection, "send", failing)
        broken = shortctl("links", "import", path)
    assert broken.exit_code == 1
    assert "--resume" in broken.stderr
    kept = json.loads((tmp_path / "links.csv.import").read_text())
    assert 0 < kept["created"] < count(writer), (
        "no links were created by a batch whose response was lost"
    )
    done = shortctl("links", "import", path, "--resume")
    assert done.exit_code == 0, done.output
    assert "950 links created" in done.stderr
    assert count(writer) == 950


def test_an_import_of_a_changed_file_is_not_resumed(shortctl, writer, tmp_path, monkeypatch):
    path = links_file(tmp_path, 300)
    monkeypatch.setattr(batches, "BATCH_ROWS", 100)
    (tmp_path / "links.csv.import").write_text('{"batches": 2, "key": "import-other"}')
    done = shortctl("links", "import", path, "--resume")
    assert done.exit_code == 1
    assert "has changed" in done.stderr
    assert count(writer) == 0


def test_an_import_reads_standard_input(shortctl, writer):
    done = shortctl(
        "links", "import", "-", "--format", "jsonl", stdin='{"target": "https://example.com/"}\n'
    )
    assert done.exit_code == 0, done.output
    assert count(writer) == 1


def started_import(environment=None):
    program = Path(sys.executable).with_name("shortctl")
    return subprocess.Popen(
        [program, "links", "import", "-"],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | (environment or {}),
    )  # fmt: skip


def interrupted(process):
    """Send Ctrl-C and return the error output; the process must end within a second."""
    process.send_signal(signal.SIGINT)
    with Stopwatch() as took:
        assert process.wait(30) == 130
    output = process.stderr.read()
    assert "Traceback" not in output
    assert took.seconds < 1, output
    return output


def test_ctrl_c_ends_an_import_from_a_silent_pipe_at_once_and_prints_its_progress(writer):
    size = batches.BATCH_ROWS
    rows = [f"https://example.com/{n}" for n in range((importer.IN_FLIGHT + 2) * size + 1)]
    rows[0] = rows[size] = "nowhere"
    with started_import() as process:
        process.stdin.write("target\n" + "\n".join(rows) + "\n")
        process.stdin.flush()
        assert process.stderr.readline().startswith("line 2, target")
        assert process.stderr.readline().startswith(f"line {size + 2}, target")
        output = interrupted(process)
    created = int(re.search(r"Interrupted after (\d+) links created, \d+ rows failed", output)[1])
    assert size - 1 <= created <= count(writer)


def test_ctrl_c_ends_an_import_that_waits_for_a_silent_server_at_once(shortctl):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = {"SHORTCTL_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "SHORTCTL_KEY": "k"}
        with started_import(place) as process, process.stdin as rows:
            rows.write("target\nhttps://example.com/\n")
            rows.close()
            server, _ = silent.accept()
            with server:
                assert server.recv(4) == b"POST"
                assert "Interrupted after 0 links created" in interrupted(process)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_export_and_a_later_import_preserve_every_public_field(shortctl, writer, tmp_path, form):
    lines = [
        {
            "target": "https://example.com/ü?a=1,2",
            "code": f"c{number}",
            "redirect_status": 308,
            "valid_from": "2020-01-01T00:00:00Z",
            "expires_at": "2090-01-01T00:00:00.123Z",
            "expired_target": "https://example.com/over",
            "max_visits": 7,
            "forward_query": True,
            "forward_path": True,
            "title": 'A "quoted", title',
            "tags": ["a", "b"],
            "note": "two\nlines",
        }
        for number in range(250)
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert shortctl("links", "import", source).exit_code == 0
    first, second = tmp_path / f"first.{form}", tmp_path / f"second.{form}"
    done = shortctl("links", "export", first)
    assert done.exit_code == 0, done.output
    assert "250 links exported" in done.stderr
    # The same links on another domain: all fields except the domain are compared.
    moved = tmp_path / f"moved.{form}"
    moved.write_text(first.read_text().replace("go.example", "other.example"))
    headers = {"authorization": f"Bearer {writer.key}"}
    made = httpx.post(
        f"{writer.url}/api/v1/domains", json={"host": "other.example"}, headers=headers
    )
    assert made.status_code == 201, made.text
    assert shortctl("links", "import", moved).exit_code == 0
    assert shortctl("links", "export", second, "--domain", "other.example").exit_code == 0
    assert sorted(second.read_text().splitlines()) == sorted(moved.read_text().splitlines())
