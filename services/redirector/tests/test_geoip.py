"""Where a visitor is: from a database file, or from a header of a trusted proxy."""

import os
from pathlib import Path

import pytest
from harness.mmdb import city, database
from hypothesis import given
from hypothesis import strategies as st

from redirector.clicks import geo
from redirector.clicks.geo import GeoDatabase, place_of

NETWORKS = {
    "192.0.2.0/24": city("DE", "BE"),
    "198.51.100.0/25": city("FR"),
    "2001:db8:7::/48": city("US", "CA"),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "geo.mmdb"


def replace(path, content):
    """Replace a file by a rename, as geoipupdate does."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def loaded(path, networks=NETWORKS, **options):
    replace(path, database(networks, **options))
    geo_database = GeoDatabase(path)
    assert geo_database.load()
    return geo_database


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1", "DE-BE"),
        ("192.0.2.255", "DE-BE"),
        ("192.0.3.1", ""),
        ("198.51.100.127", "FR"),
        ("198.51.100.128", ""),
        ("2001:db8:7:ffff::1", "US-CA"),
        ("2001:db8:8::1", ""),
        ("fe80::1%eth0", ""),
        ("unknown", ""),
    ],
)
def test_an_address_has_the_place_of_its_network(path, address, place):
    assert loaded(path).place(address) == place


def test_a_database_of_ipv4_has_no_place_for_an_address_of_ipv6(path):
    geo_database = loaded(path, {"192.0.2.0/24": city("DE")}, ip_version=4)
    assert geo_database.place("192.0.2.1") == "DE"
    assert geo_database.place("2001:db8::1") == ""
    assert geo_database.failures == {"load": 0, "lookup": 0}


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (city("DE", "BE"), "DE-BE"),
        ({"country": "DE"}, "DE"),
        ({"country_code": "DE", "city": "Berlin"}, "DE"),
        ({"continent": {"code": "EU"}}, ""),
        (city("deu"), ""),
        (city("DE", "be"), "DE"),
        (city("DE", "LONG"), "DE"),
        ({"country": {"iso_code": "DE"}, "subdivisions": [{"names": {}}]}, "DE"),
        ({"country": {"iso_code": "DE"}, "subdivisions": []}, "DE"),
        ({"country": ["DE"]}, ""),
        ("DE", ""),
        (None, ""),
    ],
)
def test_a_record_of_any_vendor_is_read(record, place):
    assert place_of(record) == place


def test_a_new_file_is_loaded_and_the_same_file_is_not(path):
    geo_database = loaded(path, built_at=100)
    assert not geo_database.load()
    replace(path, database({"192.0.2.0/24": city("AT")}, built_at=200))
    assert geo_database.load()
    assert geo_database.place("192.0.2.1") == "AT"
    assert (geo_database.loads, geo_database.built_at) == (2, 200)


def test_a_file_that_is_overwritten_in_place_does_not_end_the_process(path):
    geo_database = loaded(path)
    os.truncate(path, 0)
    assert geo_database.place("192.0.2.1") == "DE-BE"
    assert not geo_database.load()
    assert geo_database.place("192.0.2.1") == "DE-BE"
    path.write_bytes(database({"192.0.2.0/24": city("AT")}))
    assert geo_database.load()
    assert geo_database.place("192.0.2.1") == "AT"


@pytest.mark.parametrize(
    "content",
    [b"", b"not a database", database(NETWORKS)[:-20], database(NETWORKS)[500:], bytes(10**6)],
)
def test_a_corrupt_file_keeps_the_last_database_and_is_counted_once(path, content):
    geo_database = loaded(path)
    replace(path, content)
    assert not geo_database.load()
    assert not geo_database.load()
    assert geo_database.failures == {"load": 1, "lookup": 0}
    assert geo_database.place("192.0.2.1") == "DE-BE"
    replace(path, database({"192.0.2.0/24": city("AT")}))
    assert geo_database.load()


def test_a_missing_file_is_counted_once_and_loaded_as_soon_as_it_exists(path):
    geo_database = GeoDatabase(path)
    assert not geo_database.load()
    assert not geo_database.load()
    assert geo_database.failures == {"load": 1, "lookup": 0}
    assert geo_database.place("192.0.2.1") == ""
    replace(path, database(NETWORKS))
    assert geo_database.load()
    path.unlink()
    assert not geo_database.load()
    assert geo_database.failures["load"] == 2
    assert geo_database.place("192.0.2.1") == "DE-BE"


def test_a_path_that_is_not_a_file_and_a_large_file_are_failures(path, tmp_path):
    os.mkfifo(path)
    large = tmp_path / "large.mmdb"
    with large.open("wb") as file:
        file.truncate(geo.MAX_BYTES + 1)
    for each in (path, tmp_path, large):
        geo_database = GeoDatabase(each)
        assert not geo_database.load()
        assert geo_database.failures["load"] == 1


@given(st.data())
def test_a_damaged_database_raises_nothing(tmp_path_factory, data):
    content = bytearray(database(NETWORKS))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "geo.mmdb"
    path.write_bytes(content)
    geo_database = GeoDatabase(path)
    geo_database.load()
    for address in ("192.0.2.1", "198.51.100.1", "2001:db8:7::1"):
        assert len(geo_database.place(address)) <= 6


def test_a_reload_leaves_no_file_open(path):
    geo_database = loaded(path)
    before = len([*Path("/proc/self/fd").iterdir()])
    for number in range(20):
        replace(path, database(NETWORKS, built_at=number) if number % 2 else b"corrupt")
        geo_database.load()
    assert len([*Path("/proc/self/fd").iterdir()]) == before
