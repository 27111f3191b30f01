"""The memory of Host values: short, valid, and of a bounded number."""

from redirector.domains import cache

LONG = b"a" * 60_000


async def test_values_that_anybody_can_make_up_are_not_remembered(run, table) -> None:
    await table.domain("other.example")
    running = await run()
    known = running.redirector.domains
    for value in (LONG, LONG + b".other.example", b"other.example b", b"other.example/", b"\xff"):
        assert known.of_field(value) is None
        assert known.of_header(value.decode("latin-1")) is known.default
    assert not known.known
    for number in range(3 * cache._REMEMBERED):
        known.of_field(b"other.example:%d" % number)
        known.of_field(b"made-up-%d.example" % number)
        assert len(known.known) <= cache._REMEMBERED
    assert max(map(len, known.known)) < 300
    assert known.of_field(b"Other.Example:80").host == "other.example"
    assert known.known[b"Other.Example:80"].host == "other.example"
