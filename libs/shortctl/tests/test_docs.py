from shortcore.settings.catalog import ALL
from shortctl.docs import PAGE, configuration


def test_every_setting_has_one_row_with_a_description():
    lines = configuration().splitlines()
    for name in {name for settings in ALL for name in settings.model_fields}:
        (row,) = [line for line in lines if line.startswith(f"| `SHORTLINKS_{name.upper()}` |")]
        variable, kind, _unit, default, description, services = row.strip("| ").split(" | ")
        assert variable
        assert kind
        assert default
        assert description
        assert services


def test_the_default_of_a_secret_is_not_shown():
    for line in configuration().splitlines():
        if "| secret" in line:
            assert "| required |" in line or "| unset |" in line


def test_the_page_is_written_and_a_stale_page_fails_the_check(shortctl, tmp_path):
    assert shortctl("docs", "--check").exit_code == 1
    assert shortctl("docs").exit_code == 0
    assert shortctl("docs", "--check").exit_code == 0
    page = tmp_path / PAGE
    page.write_text(page.read_text() + "\nby hand\n")
    stale = shortctl("docs", "--check")
    assert stale.exit_code == 1
    assert "make docs" in stale.stderr
