"""Writes small MaxMind DB files (https://maxmind.github.io/MaxMind-DB/)."""

import ipaddress
import struct
from collections.abc import Mapping
from typing import Any

Tree = list[Any]  # [zero, one]: each is None, a Tree, or the bytes of a record
_STRING, _UINT16, _UINT32, _MAP, _UINT64, _ARRAY = 2, 5, 6, 7, 9, 11
_INTEGERS = {_UINT16: "!H", _UINT32: "!I", _UINT64: "!Q"}


def city(country: str, region: str = "") -> dict[str, Any]:
    """Return a record in the form of GeoLite2-City."""
    record: dict[str, Any] = {"country": {"iso_code": country, "names": {"en": "its name"}}}
    if region:
        record["subdivisions"] = [{"iso_code": region}, {"iso_code": "ZZ"}]
    return record


def database(networks: Mapping[str, object], *, built_at: int = 1, ip_version: int = 6) -> bytes:
    """Return a file with a record for each network; IPv4 networks are within ::/96 of IPv6."""
    root: Tree = [None, None]
    for network, record in networks.items():
        _insert(root, _bits(network, ip_version), _encoded(record))
    nodes = _numbered(root)
    place_of = {id(node): number for number, node in enumerate(nodes)}
    data, tree = b"", b""
    for node in nodes:
        for child in node:
            if child is None:
                value = len(nodes)
            elif isinstance(child, bytes):
                value = len(nodes) + 16 + len(data)
                data += child
            else:
                value = place_of[id(child)]
            tree += value.to_bytes(3, "big")
    metadata = {
        "binary_format_major_version": (_UINT16, 2),
        "binary_format_minor_version": (_UINT16, 0),
        "build_epoch": (_UINT64, built_at),
        "database_type": "Test-City",
        "description": {"en": "a test"},
        "ip_version": (_UINT16, ip_version),
        "languages": ["en"],
        "node_count": (_UINT32, len(nodes)),
        "record_size": (_UINT16, 24),
    }
    return tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + _encoded(metadata)


def _bits(network: str, ip_version: int) -> str:
    parsed = ipaddress.ip_network(network)
    bits = f"{int(parsed.network_address):0{parsed.max_prefixlen}b}"[: parsed.prefixlen]
    return "0" * 96 + bits if parsed.version < ip_version else bits


def _insert(node: Tree, bits: str, record: bytes) -> None:
    for bit in map(int, bits[:-1]):
        if node[bit] is None:
            node[bit] = [None, None]
        node = node[bit]
    node[int(bits[-1])] = record


def _numbered(root: Tree) -> list[Tree]:
    nodes = [root]
    for node in nodes:  # grows meanwhile
        nodes += [child for child in node if isinstance(child, list)]
    return nodes


def _encoded(value: object) -> bytes:
    match value:
        case str():
            text = value.encode()
            return _control(_STRING, len(text)) + text
        case dict():
            pairs = b"".join(_encoded(key) + _encoded(each) for key, each in value.items())
            return _control(_MAP, len(value)) + pairs
        case list():
            return _control(_ARRAY, len(value)) + b"".join(map(_encoded, value))
        case (kind, number):
            packed = struct.pack(_INTEGERS[kind], number)
            return _control(kind, len(packed)) + packed
    raise TypeError(value)


def _control(kind: int, size: int) -> bytes:
    first, extended = (kind << 5, b"") if kind <= _MAP else (0, bytes([kind - 7]))
    if size < 29:
        return bytes([first | size]) + extended
    return bytes([first | 29]) + extended + bytes([size - 29])
