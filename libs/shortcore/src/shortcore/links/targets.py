"""Checks targets and hosts by the URL Standard, and returns their normal form.

The parser is that of browsers (https://url.spec.whatwg.org, through ada), so that the checked URL
is the one that a browser opens. docs/urls.md lists what is refused although the Standard allows it,
and why.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from ada_url import parse_url

from shortcore.links.loopback import is_loopback

NEVER_SCHEMES: Final = frozenset({"blob", "data", "file", "javascript", "vbscript"})
"""Schemes that run code or read the visitor's local data; no setting can allow them."""

MAX_HOST_LENGTH: Final = 253
"""Maximum length of a host name in characters, without its final dot (RFC 1035, section 2.3.4)."""

_WEB_PORTS = {"http": 80, "https": 443}
_WEB_SCHEMES = frozenset(_WEB_PORTS)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_HAS_SCHEME = re.compile(r"[\x00-\x20]*[a-z][a-z0-9+.-]*:", re.ASCII | re.IGNORECASE)
_NO_HOST = re.compile(r"[\x00-\x20]*https?:[/\\]*([?#:@]|\Z)", re.ASCII | re.IGNORECASE)
_LONG_AUTHORITY = re.compile(
    r"[\x00-\x20]*[a-z][a-z0-9+.-]*:[/\\]*[^/\\?#]{2049}", re.ASCII | re.IGNORECASE
)
_HEADER_SAFE = re.compile(r"[!-~]+")
_NOT_IN_HOST = re.compile(r"[\x00-\x20\x7f/\\?#@%]")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\]")
_PORT_AND_DOT = len(":65535") + len(".")

# A host whose last label has only letters is not an IPv4 address; one with "xn--" must be checked. No
# segment of the path begins with a dot, and the Standard changes none of the characters.
_NORMAL = re.compile(
    r"(https?)://(?![^/]*xn--)((?:[a-z0-9-]++\.)*+[a-z]++)"
    r"(?:/(?!\.)[A-Za-z0-9_~!$&'()*+,;=:@.-]*+)++"
    r"(?:\?[A-Za-z0-9_~!$&()*+,;=:@/?.%-]*+)?",
    re.ASCII,
)
"""Matches some of the URLs that the Standard's parser returns unchanged."""


class TargetError(ValueError):
    """A target was refused: `rule` is a stable name, the text a sentence for its author.

    Rules: `length`, `syntax`, `scheme`, `credentials`, `host`, `loop`.
    """

    def __init__(self, rule: str, sentence: str) -> None:
        super().__init__(sentence)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """The targets that the operator allows.

    `schemes` are names without a colon. `max_length` is the maximum number of characters, both of the
    input and of its normal form. `own_hosts` are the hosts of short links, in any spelling that
    `normalise_host` accepts. If one of them is a loopback name, every loopback address on `own_port`
    counts as one, too. Raises ValueError for a scheme or host that cannot be allowed.
    """

    schemes: frozenset[str] = _WEB_SCHEMES
    allow_credentials: bool = False
    max_length: int = 8192
    own_hosts: frozenset[str] = frozenset()
    own_port: int = 0
    own_loopback: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        schemes = frozenset(scheme.lower() for scheme in self.schemes)
        if never := sorted(schemes & NEVER_SCHEMES):
            raise ValueError(f"Targets can never be allowed these schemes: {', '.join(never)}.")
        if not schemes or not all(_SCHEME.fullmatch(scheme) for scheme in schemes):
            raise ValueError("Name at least one scheme for targets, such as https, with no colon.")
        if self.max_length < 1:
            raise ValueError("The maximum length of a target is at least 1 character.")
        object.__setattr__(self, "schemes", schemes)
        own_hosts = frozenset(map(normalise_host, self.own_hosts))
        object.__setattr__(self, "own_hosts", own_hosts)
        object.__setattr__(self, "own_loopback", any(map(is_loopback, own_hosts)))


def normalise_target(raw: str, policy: TargetPolicy) -> str:
    """Return the Standard's serialisation of `raw`: printable ASCII without a space.

    Raises TargetError if `raw` is not an absolute URL or `policy` refuses it.
    """
    if is_normal(raw, policy):
        return raw
    _check_length(raw, policy)
    if _LONG_AUTHORITY.match(raw):
        raise _long_host_error()  # not parsed: punycode takes time by the square of its length
    try:
        url = parse_url(raw, ("href", "protocol", "username", "password", "hostname", "port"))
    except ValueError:
        raise _unreadable(raw, policy) from None
    scheme = url["protocol"].removesuffix(":")
    if scheme not in policy.schemes:
        raise _scheme_error(policy)
    if not policy.allow_credentials and (url["username"] or url["password"]):
        raise TargetError(
            "credentials",
            "Take the user name and password out of the target: everyone who follows the link"
            " would see them.",
        )
    if scheme in _WEB_SCHEMES:
        _check_host(url["hostname"], int(url["port"] or _WEB_PORTS[scheme]), policy)
    # The Standard leaves spaces in opaque paths ("mailto:a b"); a header must not contain them.
    href = url["href"].replace(" ", "%20")
    _check_length(href, policy)
    return header_safe(href)


def is_normal(raw: str, policy: TargetPolicy) -> bool:
    """Return True for most targets that are allowed and already in their normal form.

    False means unknown: `normalise_target` then parses the target, which takes ten times as long.
    """
    normal = _NORMAL.fullmatch(raw)
    return (
        normal is not None
        and normal[1] in policy.schemes
        and normal[2] not in policy.own_hosts
        and not (policy.own_loopback and normal[2].endswith("localhost"))
        and len(normal[2]) <= MAX_HOST_LENGTH
        and len(raw) <= policy.max_length
    )


def header_safe(url: str) -> str:
    """Return `url` if it is printable ASCII without a space, else raise TargetError.

    This is the last check before `Location`: without CR, LF and NUL a header cannot be split, even if
    the parser has let one of them pass.
    """
    if not _HEADER_SAFE.fullmatch(url):
        raise TargetError("syntax", "Percent-encode the target's control and non-ASCII characters.")
    return url


def normalise_host(raw: str) -> str:
    """Return the normal form of a host: lower case, IDN as punycode, without a final dot.

    The port is dropped, as a host has the same links on every port. IPv4 and IPv6 addresses are in
    the Standard's form, the latter in brackets. Raises ValueError for text that is neither a valid
    DNS name (lengths of RFC 1035; `_` is accepted) nor an address.
    """
    if len(raw) > MAX_HOST_LENGTH + _PORT_AND_DOT or _NOT_IN_HOST.search(raw):
        raise ValueError("A host is a plain name such as go.example.com, without scheme or path.")
    try:
        host = parse_url(f"http://{raw}", ("hostname",))["hostname"].removesuffix(".")
    except ValueError:
        raise ValueError("This is not a valid host name or address.") from None
    if len(host) > MAX_HOST_LENGTH or not _HOST.fullmatch(host):
        raise ValueError(
            "A host name is made of labels of 1 to 63 letters, digits and inner hyphens, joined by"
            f" dots, {MAX_HOST_LENGTH} characters in all."
        )
    return host


def _check_length(url: str, policy: TargetPolicy) -> None:
    if len(url) > policy.max_length:
        raise TargetError(
            "length",
            f"Shorten the target: it may have {policy.max_length} characters, percent-encoded.",
        )


def _check_host(hostname: str, port: int, policy: TargetPolicy) -> None:
    host = hostname.rstrip(".")
    if not host:
        raise _host_error()
    if len(host) > MAX_HOST_LENGTH:
        raise _long_host_error()
    here = policy.own_loopback and port == policy.own_port and is_loopback(host)
    if here or host in policy.own_hosts:
        raise TargetError(
            "loop",
            "Point the link to its final destination: this target is on a host of short links,"
            " which could send visitors in a circle.",
        )


def _unreadable(raw: str, policy: TargetPolicy) -> TargetError:
    # The Standard's parser has refused the target; this only selects the most helpful sentence.
    if not _HAS_SCHEME.match(raw):
        return _scheme_error(policy)
    if _NO_HOST.match(raw):
        return _host_error()
    return TargetError(
        "syntax", "The target is not a valid URL; check the host and the port after the scheme."
    )


def _scheme_error(policy: TargetPolicy) -> TargetError:
    allowed = " or ".join(f"{scheme}:" for scheme in sorted(policy.schemes))
    return TargetError(
        "scheme",
        f"Begin the target with {allowed}, written in full, such as https://example.com/page.",
    )


def _host_error() -> TargetError:
    return TargetError(
        "host", "Name the target's host, such as example.com in https://example.com."
    )


def _long_host_error() -> TargetError:
    return TargetError(
        "host", f"Shorten the target's host: it may have {MAX_HOST_LENGTH} characters."
    )
