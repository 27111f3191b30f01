import httpx
from harness.databases import fetch


def test_a_key_is_shown_once_and_works_until_it_is_revoked(shortctl, writer):
    made = shortctl("keys", "create", "--name", "ci", "--expires-in", "30d")
    key = made.stdout.strip()
    assert key.startswith("sl_")

    def status():
        return httpx.get(
            f"{writer.url}/api/v1/links", headers={"authorization": f"Bearer {key}"}
        ).status_code

    assert status() == 200
    listed = shortctl("keys", "list")
    assert "ci" in listed.stdout
    assert key not in listed.stdout
    number = fetch(writer.postgres_url, "SELECT max(id) FROM api_keys")
    assert shortctl("keys", "revoke", number).exit_code == 0
    assert "revoked" in shortctl("keys", "list").stdout


def test_all_keys_are_listed_even_if_they_fill_several_pages(admin, database_url):
    fetch(
        database_url,
        "INSERT INTO api_keys (name, prefix, hash)"
        " SELECT 'key' || n || '.', 'p' || n, '' FROM generate_series(1, 2300) AS n RETURNING 1",
    )
    listed = admin("keys", "list").stdout
    assert all(listed.count(f"key{n}.") == 1 for n in range(1, 2301))


def test_only_the_hash_of_a_key_is_stored(admin, database_url):
    key = admin("keys", "create", "--name", "x").stdout.strip()
    row = fetch(database_url, "SELECT api_keys::text FROM api_keys")
    assert key not in row


def test_an_unknown_key_and_an_invalid_duration_are_reported_in_a_sentence(admin):
    assert "no key 99" in admin("keys", "revoke", "99").stderr
    assert "not a duration" in admin("keys", "create", "--name", "x", "--expires-in", "soon").stderr


def test_migrate_upgrades_an_empty_database_to_the_newest_schema(shortctl, blank_database_url):
    first = shortctl("migrate", "--postgres-url", blank_database_url)
    assert first.exit_code == 0, first.output
    assert "schema: 0 → " in first.stdout
    again = shortctl("migrate", "--postgres-url", blank_database_url)
    assert "already" in again.stdout
