"""The main job: create through the writer, follow through the redirector, with real links."""

import concurrent.futures
import csv
import subprocess
from pathlib import Path

import httpx
import pytest
from harness.stack import Stack
from harness.stopwatch import Stopwatch
from harness.waiting import until

from shortcore.links.targets import TargetPolicy, normalise_target
from shortctl.dev.services import command

LINKS = Path(__file__).parent / "data" / "links.csv"


def follow(client: httpx.Client, url: str) -> tuple[int, str]:
    answer = client.get(url)
    return answer.status_code, answer.headers.get("location", "")


@pytest.mark.slow
def test_4383_real_links_are_imported_in_seconds_and_every_one_leads_to_its_target(
    stack: Stack, server_folder: Path
) -> None:
    writer, redirector = stack.writer(), stack.redirector()
    watch = Stopwatch()
    imported = subprocess.run(
        [
            *command("shortctl", "links", "import", str(LINKS), "--url", writer.url),
            "--key",
            stack.api_key,
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    took = watch.seconds
    assert imported.returncode == 0, imported.stdout + imported.stderr
    assert took < 5, f"the import took {took:.1f} s"

    exported = server_folder / "export.csv"
    subprocess.run(
        [
            *command("shortctl", "links", "export", str(exported), "--url", writer.url),
            "--key",
            stack.api_key,
        ],
        check=True,
        capture_output=True,
        timeout=100,
    )
    with exported.open(newline="") as rows:
        codes = {row["code"]: row["target"] for row in csv.DictReader(rows)}
    with LINKS.open(newline="") as rows:
        wanted = sorted(normalise_target(r["target"], TargetPolicy()) for r in csv.DictReader(rows))
    assert sorted(codes.values()) == wanted
    assert len(codes) == 4383

    with (
        httpx.Client(timeout=30, trust_env=False) as client,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        answers = pool.map(lambda code: follow(client, f"{redirector.url}/{code}"), codes)
        wrong = [
            (code, answer)
            for code, answer in zip(codes, answers, strict=True)
            if answer != (302, codes[code])
        ]
    assert not wrong


def test_a_link_can_be_followed_as_soon_as_its_creation_is_answered(stack: Stack) -> None:
    writer, redirector = stack.writer(), stack.redirector()
    with stack.api(writer) as api, httpx.Client(trust_env=False) as client:
        for number in range(100):
            target = f"https://example.com/{number}"
            made = api.post("/api/v1/links", json={"target": target})
            assert made.status_code == 201, made.text
            assert follow(client, f"{redirector.url}/{made.json()['code']}") == (302, target)


def test_an_edit_and_a_delete_reach_a_redirector_that_has_the_link_cached(stack: Stack) -> None:
    writer, redirector = stack.writer(), stack.redirector()
    stack.relay()
    with stack.api(writer) as api, httpx.Client(trust_env=False) as client:
        link = api.post("/api/v1/links", json={"target": "https://example.com/old"}).json()
        url = f"{redirector.url}/{link['code']}"
        assert follow(client, url) == (302, "https://example.com/old")
        edited = api.patch(link["self"], json={"target": "https://example.com/new"})
        assert edited.status_code == 200
        until(
            lambda: follow(client, url) == (302, "https://example.com/new"),
            "the new target is served",
        )
        assert api.delete(link["self"]).status_code == 204
        until(lambda: follow(client, url)[0] == 410, "the deletion is seen")
        assert api.post(f"{link['self']}:restore").status_code == 200
        until(
            lambda: follow(client, url) == (302, "https://example.com/new"),
            "the new target is served",
        )


def test_the_pair_starts_again_and_still_knows_every_link(stack: Stack) -> None:
    writer, redirector = stack.writer(), stack.redirector()
    with stack.api(writer) as api, httpx.Client(trust_env=False) as client:
        link = api.post("/api/v1/links", json={"target": "https://example.com/"}).json()
        for part in (writer, redirector):
            assert part.child.stop()
            part.restart()
        assert api.get(link["self"]).json()["target"] == "https://example.com/"
        assert follow(client, f"{redirector.url}/{link['code']}")[0] == 302


BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def test_followed_links_are_seen_as_visits_and_clicks_in_the_api_within_seconds(
    stack: Stack,
) -> None:
    writer, redirector = stack.writer(), stack.redirector()
    stack.worker()
    with stack.api(writer) as api, httpx.Client(trust_env=False) as client:
        links = [
            api.post("/api/v1/links", json={"target": f"https://example.com/{number}"}).json()
            for number in range(8)
        ]
        for link in links:
            for agent in (BROWSER, BROWSER, BROWSER, BOT):
                url = f"{redirector.url}/{link['code']}"
                assert client.get(url, headers={"User-Agent": agent}).status_code == 302

        def counted() -> list[tuple[int, int]]:
            found = [api.get(link["self"]).json() for link in links]
            return [(link["visits"], link["clicks"]) for link in found]

        until(lambda: counted() == [(3, 4)] * len(links), "all clicks are counted", details=counted)
