"""What visitors see, in a real browser: that pages work, fit, can be read, and load nothing else."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import httpx
import pytest
from harness import browser
from harness.browser import visit
from harness.stack import Stack
from playwright.sync_api import Browser, expect

WIDTHS = (320, 1280)
LEAST_CONTRAST = 4.5
"""Of text to its ground: WCAG 2.2, success criterion 1.4.3."""

# The contrast of each piece of text to the nearest ground that is painted behind it, by WCAG's
# formula; what is see-through or an image is not met on these pages.
CONTRASTS = """(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(n => n / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const ground = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (c !== 'rgba(0, 0, 0, 0)') return c } };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walk.nextNode()) { const text = walk.currentNode, e = text.parentElement;
    if (!text.data.trim()) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
    found.push([text.data.trim(), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]) }
  return found })()"""
MARGINS = """(() => { const box = document.querySelector('main').getBoundingClientRect();
  return [box.left, document.documentElement.clientWidth - box.right] })()"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = browser.find()
    if program is None:
        pytest.skip(f"no browser here: none of {', '.join(browser.NAMES)} is installed")
    with browser.launch(program) as started:
        yield started


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of a site that links lead to."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><title>Arrived</title>"
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://elsewhere.example:{server.server_port}/"
        server.shutdown()


def create(api: httpx.Client, **fields: object) -> dict[str, str]:
    made = api.post("/api/v1/links", json={"target": "https://example.com/", **fields})
    assert made.status_code == 201, made.text
    link: dict[str, str] = made.json()
    return link


def test_the_right_password_leads_to_the_target_and_a_wrong_one_to_an_error(
    chromium: Browser, stack: Stack, elsewhere: str
) -> None:
    writer, redirector = stack.writer(), stack.redirector()
    with stack.api(writer) as api:
        link = create(api, target=f"{elsewhere}welcome", password="open sesame")
    here = redirector.url.replace("127.0.0.1", "localhost") + f"/{link['code']}"
    with visit(chromium) as visitor:
        page = visitor.page
        page.goto(here)
        field = page.get_by_role("textbox", name="Password")
        expect(field).to_be_focused()
        page.keyboard.type("open barley")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()
        assert page.url == here
        expect(field).to_have_accessible_description("That is not the password.")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_be_focused()
        page.keyboard.type("open sesame")
        page.keyboard.press("Enter")
        expect(page).to_have_title("Arrived")
        assert page.url == f"{elsewhere}welcome"
        assert page.evaluate("document.referrer") == "", "the other site saw where the link is"
        assert visitor.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_narrow_and_wide_windows_can_be_read_and_loads_nothing_else(
    chromium: Browser, stack: Stack, scheme: Literal["light", "dark"]
) -> None:
    writer, redirector = stack.writer(), stack.redirector()
    with stack.api(writer) as api:
        long = {"code": "W" * 64, "target": "https://example.com/" + "w" * 500}
        gone = create(api)
        api.delete(gone["self"]).raise_for_status()
        paths = {
            create(api, password="p")["code"]: "Password needed",
            create(api, **long)["code"] + "+": f"localhost/{long['code']}",
            create(api, title="Sale" * 100)["code"] + "+": "Sale" * 100,
            create(api, title="Spring sale")["code"] + "+": "Spring sale",
            create(api, password="p", title="Locked")["code"] + "+": "Locked",
            create(api, max_visits=1, title="Few")["code"] + "+": "Few",
            create(api, title="Long host", target=f"https://{'h' * 60}.{'o' * 60}.example/")["code"]
            + "+": "Long host",
            create(api, valid_from="2999-01-01T00:00:00Z")["code"]: "Not open yet",
            create(api, enabled=False)["code"]: "Switched off",
            gone["code"]: "Gone",
            "nothing-is-here": "Not found",
            "": "Short links",
        }
    here = redirector.url.replace("127.0.0.1", "localhost")
    for width in WIDTHS:
        with visit(chromium, width=width, scheme=scheme) as visitor:
            page = visitor.page
            for path, heading in paths.items():
                said = f"/{path} at {width} px"
                visitor.requests.clear()
                page.goto(f"{here}/{path}")
                assert set(visitor.requests) <= {f"{here}/{path}", f"{here}/favicon.ico"}, said
                headings = page.get_by_role("heading")
                expect(headings).to_have_count(1)
                expect(headings).to_have_accessible_name(heading)
                assert page.title() == heading, said
                assert page.locator("html").get_attribute("lang") == "en", said
                assert page.evaluate(OVERFLOW) == 0, said
                left, right = page.evaluate(MARGINS)
                assert left == pytest.approx(right, abs=1), said
                assert left >= 16, f"the style is not applied to {said}"
                contrasts = page.evaluate(CONTRASTS)
                assert contrasts, said
                assert [each for each in contrasts if each[1] < LEAST_CONTRAST] == [], said
            assert visitor.complaints == []


def test_a_preview_shows_a_long_target_in_full_on_demand_and_its_button_leads_there(
    chromium: Browser, stack: Stack, elsewhere: str
) -> None:
    writer, redirector = stack.writer(), stack.redirector()
    target = f"{elsewhere}{'w' * 500}/end"
    with stack.api(writer) as api:
        link = create(api, target=target, title="\u202eelas gnirpS\u05d0")
    here = redirector.url.replace("127.0.0.1", "localhost") + f"/{link['code']}+"
    with visit(chromium) as visitor:
        page = visitor.page
        page.goto(here)
        expect(page.get_by_role("heading")).to_have_text("[U+202E]elas gnirpS\u05d0")
        full = page.get_by_text(target, exact=True)
        expect(full).to_be_hidden()
        page.get_by_text("Show the whole address").click()
        expect(full).to_be_visible()
        page.get_by_role("link", name="Continue to elsewhere.example").click()
        expect(page).to_have_title("Arrived")
        assert page.url == target
        assert visitor.complaints == []


def test_a_page_runs_nothing_that_is_put_into_it(chromium: Browser, stack: Stack) -> None:
    writer, redirector = stack.writer(), stack.redirector()
    script = "</title><script>document.title='run'</script><img src=x onerror=alert(1)>"
    with stack.api(writer) as api:
        link = create(api, title=script)
    here = redirector.url.replace("127.0.0.1", "localhost") + f"/{link['code']}+"
    with visit(chromium) as visitor:
        page = visitor.page
        page.goto(here)
        assert page.title() == script
        assert visitor.requests == [here]
        assert visitor.complaints == []
        # The policy stops a script that got past the escaping.
        image = "<img src=/x onerror=stolen=1>"
        with page.expect_event("console", lambda said: "Content Security Policy" in said.text):
            page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", image)
        expect(page.locator("img")).to_have_count(1)
        assert page.evaluate("typeof stolen") == "undefined"
