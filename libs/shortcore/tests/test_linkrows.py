"""Rows of files: the work up to the next line is bounded, whatever the file contains."""

import io
import itertools

import pytest

from shortcore.links.rows import (
    MAX_ROW,
    MAX_ROW_LINES,
    Format,
    UnreadableError,
    read_lines,
    read_rows,
)


def lines_of(body: bytes, form: Format) -> list[object]:
    return list(read_lines(io.BytesIO(body), form))


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"\r"])
def test_each_blank_line_of_csv_is_reported_to_the_reader(blank):
    lines = lines_of(b"target\n" + blank * 5 + b"https://a.example/\n" + blank * 3, Format.CSV)
    assert [line is None for line in lines] == [True] * 5 + [False] + [True] * 3


def test_each_blank_line_of_jsonl_is_reported_to_the_reader():
    lines = lines_of(b'\n \n{"target":"x"}\n\t\n', Format.JSONL)
    assert [line is None for line in lines] == [True, True, False, True]
    assert [row.line for row in read_rows(io.BytesIO(b"\n\n{}\n"), Format.JSONL)] == [3]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("a" * MAX_ROW, f"more than {MAX_ROW} characters"),
        ("a\n" * (MAX_ROW // 16), f"more than {MAX_ROW_LINES} lines"),
    ],
)
def test_the_error_for_an_endless_csv_row_names_its_first_line(cell, words):
    body = f'target,note\nhttps://a.example/,b\nhttps://a.example/,"{cell}"\n'.encode()
    rows = read_rows(io.BytesIO(body), Format.CSV)
    assert next(rows).line == 2
    with pytest.raises(UnreadableError, match=f"line 3: the row has {words}"):
        next(rows)


def test_a_cell_may_hold_as_many_line_breaks_as_a_note_has_characters():
    note = "\n" * 4096
    body = f'target,note\nhttps://a.example/,"{note}"\nhttps://b.example/,c\n'.encode()
    rows = list(read_rows(io.BytesIO(body), Format.CSV))
    assert [(row.line, row.item["note"]) for row in rows] == [(2, note), (4099, "c")]


def test_a_long_jsonl_line_is_refused():
    body = b'{"target":"' + b"a" * MAX_ROW + b'"}\n'
    with pytest.raises(UnreadableError, match="line 1: the row has more than"):
        lines_of(body, Format.JSONL)


def test_a_jsonl_line_with_too_many_values_is_an_error_of_that_line_alone():
    many = b"{" + b",".join(b'"k%d":1' % n for n in range(300)) + b"}\n"
    rows = list(read_rows(io.BytesIO(many + b'{"target":"x"}\n'), Format.JSONL))
    assert [[fault.rule for fault in row.faults] for row in rows] == [["length"], []]
    assert rows[0].item == {}


def test_unknown_columns_are_named_up_to_a_number():
    names = ",".join(itertools.islice((f"column{n}" * 50 for n in itertools.count()), 200))
    with pytest.raises(UnreadableError) as raised:
        lines_of(f"target,{names}\n".encode(), Format.CSV)
    assert "and 195 more" in str(raised.value)
    assert len(str(raised.value)) < 800
