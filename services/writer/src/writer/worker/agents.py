"""Classifies user agents: browser, operating system, device, and the names of bots.

ua-parser knows browsers and systems, crawler-user-agents knows bots: lists that others maintain, and
that change with a new version of the package. Both are compiled by the regular expression engine of
ua-parser-rs. It needs linear time, and 2 µs for 1,500 patterns of bots, which take `re` 200 µs.

A hostile client can invent agents that no cache knows and that are slow to parse: 0.25 ms was the
worst of 60,000 attempts. So parsing has a budget: a fifth of the time, after a burst of one second.
An agent beyond the budget gets no class, and is a bot only if the redirector says so.
"""

import re
import time
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

import crawleruseragents
import ua_parser_rs
from ua_parser.loaders import load_builtins

from shortcore.clicks.wire import Flag

MAX_AGENT = 512
"""Characters of an agent that are read."""

MAX_NAME = 40
"""Characters of the name of a browser or a system, which can be a part of the agent."""

CACHED_AGENTS = 32_768
CACHED_CHARACTERS = 8_000_000

BUDGET = 0.2
"""Part of the time that may be spent on parsing."""

BURST_S = 1.0

OTHER_BOT = "other"
"""The name of a bot that the list does not know, or that sends no user agent."""

DEVICES = ("desktop", "mobile", "tablet", "tv", "console", "watch", "headset")
"""The kinds of devices. The kind is empty if the agent does not show it."""


_BOT = int(Flag.BOT)  # an operation on an enum's member takes longer than the look-up of an agent


class Agent(NamedTuple):
    """What a click was made with. All but `bot` are empty for a bot; `bot` is empty for a person."""

    browser: str
    os: str
    device: str
    bot: str


def classify(agent: str, flags: int) -> Agent:
    """Return the class of a click's agent, of wire form 1 or 2; `flags` are those of the click."""
    return CLASSIFIER.classify(agent, flags)


class Classifier:
    """Classifies agents; remembers the last ones. `unparsed` counts those beyond the budget."""

    def __init__(
        self,
        *,
        cached_agents: int = CACHED_AGENTS,
        cached_characters: int = CACHED_CHARACTERS,
        clock: Callable[[], float] = time.monotonic,
        stopwatch: Callable[[], float] = time.thread_time,
    ) -> None:
        self.unparsed = 0
        self._generation_agents = cached_agents // 2
        self._generation_characters = cached_characters // 2
        self._clock = clock
        self._stopwatch = stopwatch
        self._left_s = BURST_S
        self._refilled = clock()
        # Two generations: agents in use move to the young one, the old one is forgotten at once.
        self._young: dict[str, Agent] = {}
        self._old: dict[str, Agent] = {}
        self._characters = 0

    def classify(self, agent: str, flags: int) -> Agent:
        """Return the class of `agent`."""
        known = self._young.get(agent) or self._recall(agent)
        if flags & _BOT and not known.bot:
            return _OTHER_BOT
        return known

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _recall(self, agent: str) -> Agent:
        agent = agent[:MAX_AGENT]
        known = self._young.get(agent) or self._old.get(agent) or self._parse(agent)
        if known is None:
            self.unparsed += 1
            return _UNKNOWN
        if agent not in self._young:
            if (
                len(self._young) >= self._generation_agents
                or self._characters + len(agent) > self._generation_characters
            ):
                self._old, self._young, self._characters = self._young, {}, 0
            self._young[agent] = known
            self._characters += len(agent)
        return known

    def _parse(self, agent: str) -> Agent | None:
        now = self._clock()
        self._left_s = min(BURST_S, self._left_s + (now - self._refilled) * BUDGET)
        self._refilled = now
        if self._left_s <= 0:
            return None
        started = self._stopwatch()
        parsed = _parse(agent)
        self._left_s -= self._stopwatch() - started
        return parsed


def _parse(agent: str) -> Agent:
    if not agent:
        # None was sent, and then the redirector says that it is a bot; or the visitor opted out.
        return _UNKNOWN
    if agent == "bot":
        return _OTHER_BOT
    browser, _, system_and_form = agent.partition("/")
    system, _, form = system_and_form.partition("/")
    if browser in _FORM_1_BROWSERS and system in _FORM_1_SYSTEMS and form in _FORM_1_DEVICES:
        return Agent(_FORM_1_BROWSERS[browser], _FORM_1_SYSTEMS[system], _FORM_1_DEVICES[form], "")
    # Real agents are ASCII. Other characters make the engine leave its fast automaton: 5 ms.
    text = agent.encode("ascii", "replace").decode()
    bot = _BOTS.extract(text)
    if bot:
        return Agent("", "", "", bot.family)
    browser_found = _BROWSERS.extract(text)
    os_found = _SYSTEMS.extract(text)
    family = browser_found.family if browser_found else ""
    os = os_found.family if os_found else ""
    return Agent(
        _BROWSER_NAMES.get(family, family)[:MAX_NAME],
        _SYSTEM_NAMES.get(os, os)[:MAX_NAME],
        _device(text.lower()),
        "",
    )


def _device(text: str) -> str:
    return next((device for device, marks in _DEVICE_MARKS if marks.search(text)), "")


_OTHER_BOT = Agent("", "", "", OTHER_BOT)
_UNKNOWN = Agent("", "", "", "")

_DEVICE_MARKS = tuple(
    (device, re.compile(marks))
    for device, marks in (
        (
            "tv",
            r"smart-?tv|googletv|appletv|hbbtv|netcast|web0s|bravia|roku|crkey|\btv\b|; aft[a-z]+[ )]",
        ),
        ("console", "playstation|xbox|nintendo"),
        ("watch", r"\bwatch|wear ?os"),
        ("headset", "oculusbrowser|; quest|picobrowser|visionos"),
        ("tablet", "ipad|tablet(?! pc)|kindle|playbook|; kf[a-z]+[ )]"),
        ("mobile", "mobi|iphone|ipod|windows phone|opera mini|blackberry|kaios|symbian"),
        ("tablet", "android"),  # Chrome on Android says «Mobile» on phones alone
        ("desktop", "windows|macintosh|mac os x|cros |x11|linux"),
    )
)
"""What shows the device in an agent in lower case; the first that matches counts."""

_BROWSER_NAMES = {
    "Other": "",
    "Chrome Mobile": "Chrome", "Chrome Mobile iOS": "Chrome", "Chrome Mobile WebView": "Android WebView",
    "Mobile Safari": "Safari", "Mobile Safari UI/WKWebView": "iOS WebView",
    "Firefox Mobile": "Firefox", "Firefox iOS": "Firefox",
    "Edge Mobile": "Edge", "Opera Mobile": "Opera", "Opera Touch": "Opera",
    "DuckDuckGo Mobile": "DuckDuckGo", "Ecosia iOS": "Ecosia", "Ecosia Android": "Ecosia",
    "Brave Mobile": "Brave", "Yandex Browser": "Yandex", "Vivaldi Mobile": "Vivaldi",
}  # fmt: skip
"""One name for a browser on all devices; every other name of ua-parser is kept."""

_SYSTEM_NAMES = {
    "Other": "", "Mac OS X": "macOS", "Chrome OS": "ChromeOS", "Ubuntu": "Linux", "Debian": "Linux",
    "Fedora": "Linux", "Linux Mint": "Linux", "Red Hat": "Linux", "SUSE": "Linux", "Arch Linux": "Linux",
}  # fmt: skip

_FORM_1_BROWSERS = {
    "edge": "Edge", "opera": "Opera", "samsung": "Samsung Internet", "firefox": "Firefox",
    "chrome": "Chrome", "safari": "Safari", "other": "",
}  # fmt: skip
_FORM_1_SYSTEMS = {
    "ios": "iOS", "android": "Android", "windows": "Windows", "chromeos": "ChromeOS",
    "macos": "macOS", "linux": "Linux", "other": "",
}  # fmt: skip
_FORM_1_DEVICES = {"tablet": "tablet", "mobile": "mobile", "desktop": "desktop", "other": ""}
"""Classes of clicks that an older redirector sent: `chrome/android/mobile`."""

NOT_BOTS = frozenset({r"AP3A\.240617\.008"})
"""Patterns of the list that match people: this one is a build of Android 15 on many phones."""


def bot_name(pattern: str) -> str:
    """Return a name for the bots that a pattern matches: `S[eE][mM]rushBot` gives `SEMrushBot`."""
    name = re.sub(r"\[\\s\\S\]\*.*|\(\[\^.*|\(\^\| \)", "", pattern)
    name = re.sub(r"\(([^|()]*)\|[^()]*\)", r"\1", name)  # the first alternative
    name = re.sub(r"(?<!\\)\|.*", "", name)
    name = re.sub(r"\[(.)[^\]]*\]", lambda match: match[1].upper(), name)
    name = re.sub(r"\\d[\\.d+]*", "", name).replace("\\", "")
    return name.removeprefix("https://").split(" (")[0].strip("^$/ ;()!,.")[:MAX_NAME]


_browsers, _systems, _ = load_builtins()
_parts = attrgetter("regex", "family", "major", "minor", "patch", "patch_minor")
_BROWSERS = ua_parser_rs.UserAgentExtractor(map(_parts, _browsers))
_SYSTEMS = ua_parser_rs.OSExtractor(map(_parts, _systems))
_BOTS = ua_parser_rs.UserAgentExtractor(
    (entry["pattern"], bot_name(entry["pattern"]), None, None, None, None)
    for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA
    if entry["pattern"] not in NOT_BOTS
)
CLASSIFIER = Classifier()
