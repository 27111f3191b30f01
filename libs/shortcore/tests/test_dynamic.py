"""The dynamic file: it is applied as a whole or not at all, within seconds, and shown in metrics."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shortcore.runtime import dynamic_settings
from shortcore.runtime.dynamic_settings import DynamicFile, parse
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


def dynamic_file(file: Path, **more: object) -> tuple[DynamicFile[RedirectorSettings], list[float]]:
    applied: list[float] = []
    settings = RedirectorSettings(dynamic_file=file, **GIVEN | more)
    return DynamicFile(settings, lambda now: applied.append(now.l1_ttl_s)), applied


def test_the_file_overrides_the_settings_of_the_start_and_a_missing_setting_restores_them(file):
    source, applied = dynamic_file(file, l1_ttl_s=20)
    file.write_text("l1_ttl_s: 7\nlog_level: error\n")
    assert source.read()
    assert logging.getLogger().level == logging.ERROR
    file.write_text("l1_ttl_s: null\n")
    assert source.read()
    assert applied == [7, 20]
    assert logging.getLogger().level == logging.INFO


def test_an_unchanged_file_is_applied_once(file):
    source, applied = dynamic_file(file)
    file.write_text("l1_ttl_s: 7\n")
    assert [source.read(), source.read()] == [True, False]
    assert applied == [7]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("l1_ttl_s: -1\nlog_level: loud\ncache_ttl_s: 60\n", ["l1_ttl_s", "log_level"]),
        ("l1_ttl_s: 9\ntypo: 1\n", ["typo"]),
        ("default_redirect_status: 404\n", ["default_redirect_status"]),
        ("postgres_url: postgresql://elsewhere/\n", ["postgres_url"]),
        ("- a list\n", ["the file must be a mapping"]),
        ("l1_ttl_s: [\n", ["while parsing"]),
    ],
)
def test_an_invalid_file_changes_nothing_is_counted_once_and_each_error_is_logged(
    file, text, errors, monkeypatch
):
    logged: list[str] = []
    monkeypatch.setattr(
        dynamic_settings.log, "error", lambda _, **fields: logged.append(fields["error"])
    )
    source, applied = dynamic_file(file)
    file.write_text("l1_ttl_s: 7\n")
    source.read()
    good = source.generation
    file.write_text(text)
    assert [source.read(), source.read()] == [False, False]
    assert [line.startswith(error) for line, error in zip(sorted(logged), errors, strict=True)] == [
        True for _ in errors
    ]
    assert (applied, source.generation, source.errors) == ([7], good, 1)
    file.unlink()
    assert not source.read()
    assert source.errors == 2
    file.write_text("l1_ttl_s: 8\n")
    assert source.read()
    assert applied == [7, 8]


def test_the_replacement_of_a_symbolic_link_as_by_kubernetes_is_noticed(tmp_path):
    for name, ttl in (("one", 7), ("two", 8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dynamic.yaml").write_text(f"l1_ttl_s: {ttl}\n")
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "dynamic.yaml").symlink_to("..data/dynamic.yaml")
    source, applied = dynamic_file(tmp_path / "dynamic.yaml")
    source.read()
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(tmp_path / "..data")
    source.read()
    assert applied == [7, 8]


def test_equal_files_have_equal_generations_in_different_services(tmp_path):
    file = tmp_path / "dynamic.yaml"
    file.write_text("cache_ttl_s: 60\nl1_ttl_s: 5\n")
    redirector, _ = dynamic_file(file)
    writer = DynamicFile(WriterSettings(dynamic_file=file, **GIVEN), lambda _: None)
    assert redirector.read()
    assert writer.read()
    assert redirector.generation == writer.generation != 0
    file.write_text("cache_ttl_s: 61\n")
    assert writer.read()
    assert redirector.generation != writer.generation


def test_the_metrics_show_the_generation_the_time_of_the_last_change_and_the_errors(file):
    source, _ = dynamic_file(file)
    memory = FromMemory()
    source.export(memory)
    registry = CollectorRegistry()
    registry.register(memory)
    assert registry.get_sample_value("shortlinks_config_generation") == 0
    file.write_text("l1_ttl_s: 7\n")
    source.read()
    file.write_text("l1_ttl_s: x\n")
    source.read()
    sample = registry.get_sample_value
    assert sample("shortlinks_config_generation") == source.generation
    assert sample("shortlinks_config_errors_total") == 1
    assert sample("shortlinks_config_applied_timestamp_seconds") == source.applied_at > 0


def test_every_dynamic_setting_can_be_in_the_file_and_words_may_be_a_list():
    text = (
        "cache_ttl_s: 60\ndefault_redirect_status: 301\nl1_negative_ttl_s: 1\nl1_ttl_s: 2\n"
        "log_level: debug\nreserved_codes: [a, b]\n"
    )
    found = parse(text.encode())
    assert set(found) == DYNAMIC
    assert found["reserved_codes"] == {"a", "b"}


def test_without_a_file_nothing_is_applied():
    source = DynamicFile(RedirectorSettings(**GIVEN), lambda _: None)
    assert not source.read()
    assert (source.generation, source.errors) == (0, 0)
