"""The file of dynamic settings: all of it or nothing, within seconds, seen in the metrics."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shortcore.runtime import dynamic_settings
from shortcore.runtime.dynamic_settings import DynamicFile, checked
from shortcore.runtime.metrics import FromMemory
from shortcore.settings.catalog import DYNAMIC
from shortcore.settings.redirector import RedirectorSettings
from shortcore.settings.writer import WriterSettings

GIVEN = {
    "postgres_url": "postgresql://here/x",
    "redis_url": "redis://here",
    "code_secret": "a secret for the tests",
}


@pytest.fixture(autouse=True)
def root_level() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dynamic.yaml"


def watched(file: Path, **more: object) -> tuple[DynamicFile[RedirectorSettings], list[float]]:
    taken: list[float] = []
    settings = RedirectorSettings(dynamic_file=file, **GIVEN | more)
    return DynamicFile(settings, lambda now: taken.append(now.l1_ttl_s)), taken


def test_what_the_file_says_goes_before_the_start_and_what_it_leaves_out_is_as_at_the_start(file):
    source, taken = watched(file, l1_ttl_s=20)
    file.write_text("l1_ttl_s: 7\nlog_level: error\n")
    assert source.read()
    assert logging.getLogger().level == logging.ERROR
    file.write_text("l1_ttl_s: null\n")
    assert source.read()
    assert taken == [7, 20]
    assert logging.getLogger().level == logging.INFO


def test_an_unchanged_file_is_taken_once(file):
    source, taken = watched(file)
    file.write_text("l1_ttl_s: 7\n")
    assert [source.read(), source.read()] == [True, False]
    assert taken == [7]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("l1_ttl_s: -1\nlog_level: loud\ncache_ttl_s: 60\n", ["l1_ttl_s", "log_level"]),
        ("l1_ttl_s: 9\ntypo: 1\n", ["typo"]),
        ("default_redirect_status: 404\n", ["default_redirect_status"]),
        ("postgres_url: postgresql://elsewhere/\n", ["postgres_url"]),
        ("- a list\n", ["not a mapping"]),
        ("l1_ttl_s: [\n", ["while parsing"]),
    ],
)
def test_a_faulty_file_changes_nothing_is_a_line_a_fault_and_is_counted_once(
    file, text, faults, monkeypatch
):
    said: list[str] = []
    monkeypatch.setattr(
        dynamic_settings.log, "error", lambda _, **fields: said.append(fields["fault"])
    )
    source, taken = watched(file)
    file.write_text("l1_ttl_s: 7\n")
    source.read()
    good = source.generation
    file.write_text(text)
    assert [source.read(), source.read()] == [False, False]
    assert [line.startswith(fault) for line, fault in zip(sorted(said), faults, strict=True)] == [
        True for _ in faults
    ]
    assert (taken, source.generation, source.errors) == ([7], good, 1)
    file.unlink()
    assert not source.read()
    assert source.errors == 2
    file.write_text("l1_ttl_s: 8\n")
    assert source.read()
    assert taken == [7, 8]


def test_a_swapped_link_is_noticed_as_kubernetes_swaps_it(tmp_path):
    for name, ttl in (("one", 7), ("two", 8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dynamic.yaml").write_text(f"l1_ttl_s: {ttl}\n")
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "dynamic.yaml").symlink_to("..data/dynamic.yaml")
    source, taken = watched(tmp_path / "dynamic.yaml")
    source.read()
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(tmp_path / "..data")
    source.read()
    assert taken == [7, 8]


def test_equal_files_have_equal_generations_in_different_services(tmp_path):
    file = tmp_path / "dynamic.yaml"
    file.write_text("cache_ttl_s: 60\nl1_ttl_s: 5\n")
    redirector, _ = watched(file)
    writer = DynamicFile(WriterSettings(dynamic_file=file, **GIVEN), lambda _: None)
    assert redirector.read()
    assert writer.read()
    assert redirector.generation == writer.generation != 0
    file.write_text("cache_ttl_s: 61\n")
    assert writer.read()
    assert redirector.generation != writer.generation


def test_the_metrics_say_what_is_in_force_since_when_and_how_often_it_was_faulty(file):
    source, _ = watched(file)
    figures = FromMemory()
    source.export(figures)
    registry = CollectorRegistry()
    registry.register(figures)
    assert registry.get_sample_value("shortlinks_config_generation") == 0
    file.write_text("l1_ttl_s: 7\n")
    source.read()
    file.write_text("l1_ttl_s: x\n")
    source.read()
    sample = registry.get_sample_value
    assert sample("shortlinks_config_generation") == source.generation
    assert sample("shortlinks_config_errors_total") == 1
    assert sample("shortlinks_config_applied_timestamp_seconds") == source.applied_at > 0


def test_every_dynamic_setting_is_one_of_a_service_and_words_may_be_a_list():
    text = (
        "cache_ttl_s: 60\ndefault_redirect_status: 301\nl1_negative_ttl_s: 1\nl1_ttl_s: 2\n"
        "log_level: debug\nreserved_codes: [a, b]\n"
    )
    found = checked(text.encode())
    assert set(found) == DYNAMIC
    assert found["reserved_codes"] == {"a", "b"}


def test_without_a_file_nothing_is_watched():
    source = DynamicFile(RedirectorSettings(**GIVEN), lambda _: None)
    assert not source.read()
    assert (source.generation, source.errors) == (0, 0)
