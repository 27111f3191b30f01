"""Uses a client that openapi-python-client generated: python usage.py URL KEY."""

import sys

from shortlinks_client import AuthenticatedClient
from shortlinks_client.api.links import (
    create_link,
    delete_link,
    edit_link,
    get_link,
    list_links,
    replace_link,
)
from shortlinks_client.models import (
    CreateLink,
    EditLink,
    LinkPage,
    LinkStatus,
    LinkView,
    Problem,
    RedirectStatus,
    ReplaceLink,
)

url, key = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key, httpx_args={"trust_env": False})
address = {"domain": "localhost", "code": "generated-python"}

new = CreateLink(target="https://example.com/", code=address["code"], tags=["typed"])
created = create_link.sync(client=client, body=new)
assert isinstance(created, LinkView), created
assert (created.status, created.enabled) == (LinkStatus.ACTIVE, True)
assert created.redirect_status is RedirectStatus.VALUE_302
assert created.created_at.tzinfo is not None
assert created.title is None

taken = create_link.sync(client=client, body=new)
assert isinstance(taken, Problem), taken
assert taken.errors[0].pointer == "/code"

assert get_link.sync(client=client, **address) == created
page = list_links.sync(client=client, tag=["typed"], status=[LinkStatus.ACTIVE])
assert isinstance(page, LinkPage), page
assert page.items == [created]

edited = edit_link.sync(client=client, **address, body=EditLink(enabled=False, title="Sale"))
assert isinstance(edited, LinkView), edited
assert (edited.status, edited.title) == (LinkStatus.DISABLED, "Sale")
sent_back = edit_link.sync(client=client, **address, body=EditLink.from_dict(edited.to_dict()))
assert sent_back == edited

replaced = replace_link.sync(client=client, **address, body=ReplaceLink(target="https://a.test/"))
assert isinstance(replaced, LinkView), replaced
assert (replaced.target, replaced.title, replaced.enabled) == ("https://a.test/", None, True)

assert delete_link.sync_detailed(client=client, **address).status_code == 204
gone = get_link.sync(client=client, **address)
assert isinstance(gone, LinkView), gone
assert gone.status is LinkStatus.DELETED
print("done")  # noqa: T201  # the test reads it
