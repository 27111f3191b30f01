"""Examples of responses for the OpenAPI document, built from the types of the responses."""

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from shortcore.errors import URN
from shortcore.links.status import LinkStatus
from writer.domains.schemas import DomainPage, DomainView
from writer.http.problems import Problem, ProblemField
from writer.keys.schemas import KeyPage, KeyView
from writer.links.schemas import (
    BatchAnswer,
    BatchResult,
    ImportAnswer,
    ImportFailure,
    LinkPage,
    LinkView,
    TagCount,
    TagList,
    api_path,
)
from writer.stats.periods import Interval
from writer.stats.schemas import (
    BreakdownView,
    PeriodView,
    Point,
    StatsView,
    TopLinksView,
    TopLinkView,
    ValueView,
)
from writer.webhooks.schemas import (
    DeliveryPage,
    DeliveryStatus,
    DeliveryView,
    ReplayResult,
    WebhookList,
    WebhookView,
)

_HOST = "go.example.com"
_CODE = "spring-sale"
_MADE = datetime(2029, 11, 5, 9, 30, tzinfo=UTC)
_LINK = LinkView(
    code=_CODE,
    domain=_HOST,
    short_url=f"https://{_HOST}/{_CODE}",
    target="https://example.com/a/long/path?with=query",
    redirect_status=302,
    enabled=True,
    status=LinkStatus.ACTIVE,
    valid_from=None,
    expires_at=datetime(2030, 1, 31, 12, tzinfo=UTC),
    expired_target=None,
    max_visits=None,
    visits=1204,
    clicks=1377,
    has_password=False,
    forward_query=False,
    forward_path=False,
    title=None,
    tags=("campaign",),
    note=None,
    version=4711,
    created_at=_MADE,
    updated_at=_MADE,
    deleted_at=None,
    self=api_path(_HOST, _CODE),
)
_TAKEN = f"The code {_CODE} is taken on {_HOST}."
_PROBLEM = Problem(
    type=f"{URN}code-taken",
    title="Code taken",
    status=409,
    detail=_TAKEN,
    instance="urn:shortlinks:request:0d9c1f5e7a",
    errors=[ProblemField("/code", "taken", _TAKEN)],
)
# Problems of an item; problems of the whole request are in the response to the request.
_FAILED = msgspec.structs.replace(_PROBLEM, instance="")
_DOMAIN = DomainView(
    host=_HOST,
    default_target="https://example.com/",
    not_found_target=None,
    case_insensitive=False,
    default=True,
    version=12,
    created_at=_MADE,
    updated_at=_MADE,
    self=f"/api/v1/domains/{_HOST}",
)
_BERLIN = ZoneInfo("Europe/Berlin")
_POINT = Point(datetime(2029, 11, 5, tzinfo=_BERLIN), 1377, 1204, 930)
_STATS = StatsView(
    from_=_POINT.at,
    to=_POINT.at + timedelta(days=1),
    timezone="Europe/Berlin",
    interval=Interval.DAY,
    clicks=1377,
    visits=1204,
    visitors=930,
    series=[_POINT],
    previous=PeriodView(
        from_=_POINT.at - timedelta(days=1),
        to=_POINT.at,
        clicks=0,
        visits=0,
        visitors=0,
        series=[Point(_POINT.at - timedelta(days=1), 0, 0, 0)],
    ),
)
_DAY = datetime(2029, 11, 5, tzinfo=UTC)
_BREAKDOWN = BreakdownView(
    from_=_DAY,
    to=_DAY + timedelta(days=1),
    dimension="country",
    by="visits",
    clicks=1377,
    visits=1204,
    items=[ValueView("DE", 903, 880, 0.730897), ValueView(None, 474, 324, 0.269103)],
    next=None,
)
_TOP_LINKS = TopLinksView(
    from_=_DAY,
    to=_DAY + timedelta(days=1),
    by="visits",
    items=[
        TopLinkView(
            domain=_HOST,
            code=_CODE,
            short_url=_LINK.short_url,
            title=None,
            clicks=1377,
            visits=1204,
            self=_LINK.self,
        )
    ],
)
_KEY = KeyView(
    id=7,
    name="newsletter",
    prefix="sl_k3v9x2ab",
    created_at=_MADE,
    expires_at=None,
    last_used_at=None,
    revoked_at=None,
    self="/api/v1/keys/7",
)
_WEBHOOK = WebhookView(
    id=3,
    url="https://example.com/hooks/shortlinks",
    events=["link.created", "visits.threshold"],
    thresholds=[100, 10_000],
    description=None,
    enabled=True,
    disabled_reason=None,
    previous_secret_until=None,
    version=1,
    created_at=_MADE,
    updated_at=_MADE,
    self="/api/v1/webhooks/3",
)
_DELIVERY = DeliveryView(
    id="evt_4712_6b8a1c3f2d000",
    type="link.created",
    status=DeliveryStatus.PENDING,
    attempts=1,
    created_at=_MADE,
    last_attempt_at=_MADE,
    next_attempt_at=datetime(2029, 11, 5, 9, 30, 5, tzinfo=UTC),
    response_status=503,
    error="The receiver answered with the status 503.",
    self="/api/v1/webhooks/3/deliveries/evt_4712_6b8a1c3f2d000",
)

EXAMPLES: Final[dict[str, msgspec.Struct]] = {
    "BatchAnswer": BatchAnswer([BatchResult(201, link=_LINK), BatchResult(409, problem=_FAILED)]),
    "BreakdownView": _BREAKDOWN,
    "DeliveryPage": DeliveryPage([_DELIVERY], None),
    "DeliveryView": _DELIVERY,
    "DomainPage": DomainPage([_DOMAIN], None),
    "DomainView": _DOMAIN,
    "ImportAnswer": ImportAnswer(3, 2, [ImportFailure(4, _FAILED)]),
    "KeyPage": KeyPage([_KEY], None),
    "KeyView": _KEY,
    "LinkPage": LinkPage([_LINK], None),
    "LinkView": _LINK,
    "Problem": _PROBLEM,
    "ReplayResult": ReplayResult(17),
    "StatsView": _STATS,
    "TagList": TagList([TagCount("campaign", 12)]),
    "TopLinksView": _TOP_LINKS,
    "WebhookList": WebhookList([_WEBHOOK]),
    "WebhookView": _WEBHOOK,
}
