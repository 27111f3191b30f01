"""Counting the values of a JSON text without decoding it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcore.links.json_size import has_more_values

TEXT = st.text(alphabet='a",[{\\\n😀', max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def count(value: object) -> tuple[int, int]:
    """Return the number of values, and how many of them are empty containers."""
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    counts = [count(each) for each in inner]
    empty = isinstance(value, (list, dict)) and not value
    return 1 + sum(n for n, _ in counts), empty + sum(n for _, n in counts)


@given(VALUES, st.booleans())
def test_no_text_has_more_values_than_the_bound_says(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    values, empty = count(value)
    assert has_more_values(text, values - 1) or values == 1
    assert not has_more_values(text, values + empty)


@given(VALUES)
def test_separators_within_strings_do_not_count(value):
    text = json.dumps([json.dumps(value)] * 3).encode()
    assert not has_more_values(text, 4)


@pytest.mark.parametrize(
    "text", [b"[1,2,3,4", b'{"a":1,"b":2,"c":3,"d":4,}', b'[1,2,3,4,"', b'[1,2,"\\\\",4,\\"']
)
def test_invalid_text_counts_up_to_its_first_mistake(text):
    assert has_more_values(text, 3)
