"""What every pod must keep: restricted pod security, resources, probes, and a drain that ends."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from chart.rendering import CASES, CHART, Manifest, manifests, name_of, one, pods, template

cases = pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)

SERVICES = ("writer", "redirector", "relay", "worker", "edge")


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def render(helm: str, case: Path | None = None, *sets: str) -> list[Manifest]:
    return manifests(template(helm, *([case] if case else []), sets=sets))


@cases
def test_every_pod_fits_a_restricted_namespace(newest_helm: str, case: Path) -> None:
    for title, pod in pods(render(newest_helm, case)):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, title
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, title
        assert spec["securityContext"].get("runAsUser") != 0, title
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), title
        allowed = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}
        for volume in spec.get("volumes", []):
            assert volume.keys() - {"name"} <= allowed, title
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, title
            assert context["readOnlyRootFilesystem"] is True, title
            assert context["capabilities"] == {"drop": ["ALL"]}, title
            assert "privileged" not in context, title
            assert not any("hostPort" in port for port in container.get("ports", [])), title


def test_the_services_name_no_user(newest_helm: str) -> None:
    for title, pod in pods(render(newest_helm)):
        fixed = {"runAsUser", "runAsGroup", "fsGroup"} & pod["spec"]["securityContext"].keys()
        assert not fixed or "StatefulSet" in title, title


@cases
def test_every_container_has_requests_and_a_memory_limit(newest_helm: str, case: Path) -> None:
    for title, pod in pods(render(newest_helm, case)):
        for container in containers(pod):
            resources = container["resources"]
            assert resources["requests"].keys() >= {"cpu", "memory"}, title
            assert "memory" in resources["limits"], title
            assert "cpu" not in resources["limits"], title


@cases
def test_every_image_names_a_version(newest_helm: str, case: Path) -> None:
    for title, pod in pods(render(newest_helm, case)):
        for container in containers(pod):
            image = container["image"]
            tag = image.rpartition("/")[2].partition(":")[2]
            assert tag not in {"", "latest"}, f"{title}: {image}"


@cases
def test_only_the_credentials_job_gets_a_token(newest_helm: str, case: Path) -> None:
    for title, pod in pods(render(newest_helm, case)):
        expected = title.startswith("Job/") and "-credentials-" in title
        assert pod["spec"]["automountServiceAccountToken"] is expected, title
        assert pod["spec"]["enableServiceLinks"] is False, title


@cases
def test_what_runs_has_three_probes_and_they_ask_no_dependency(
    newest_helm: str, case: Path
) -> None:
    for each in render(newest_helm, case):
        if each["kind"] not in {"Deployment", "StatefulSet"}:
            continue
        for container in each["spec"]["template"]["spec"]["containers"]:
            probes = {"startupProbe", "livenessProbe", "readinessProbe"}
            assert probes <= container.keys(), name_of(each)
            if each["kind"] == "Deployment":
                asked = {probe: container[probe]["httpGet"] for probe in probes}
                assert asked == {
                    "startupProbe": {"path": "/livez", "port": "admin"},
                    "livenessProbe": {"path": "/livez", "port": "admin"},
                    "readinessProbe": {"path": "/readyz", "port": "admin"},
                }


@cases
def test_replicas_are_never_rendered_beside_an_autoscaler(newest_helm: str, case: Path) -> None:
    found = render(newest_helm, case)
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in found
        if each["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    }
    for each in found:
        if each["kind"] == "Deployment":
            assert ("replicas" in each["spec"]) is (name_of(each) not in scaled), name_of(each)


@cases
def test_no_secret_is_rendered_and_none_is_in_an_environment(newest_helm: str, case: Path) -> None:
    found = render(newest_helm, case)
    assert not [each for each in found if each["kind"] == "Secret"]
    for title, pod in pods(found):
        for container in containers(pod):
            for variable in container.get("env", []):
                if title != "Pod/links-shortlinks-test":
                    assert "secretKeyRef" not in str(variable), title


@cases
def test_every_part_is_selected_by_itself_alone(newest_helm: str, case: Path) -> None:
    found = render(newest_helm, case)
    labels = {title: pod["metadata"]["labels"] for title, pod in pods(found)}
    for each in found:
        selector: dict[str, Any]
        if each["kind"] == "Service":
            selector = each["spec"]["selector"]
        elif each["kind"] in {"Deployment", "StatefulSet", "PodDisruptionBudget"}:
            selector = each["spec"]["selector"]["matchLabels"]
        elif each["kind"] == "NetworkPolicy":
            selector = each["spec"]["podSelector"]["matchLabels"]
        else:
            continue
        chosen = [title for title, have in labels.items() if selector.items() <= have.items()]
        assert len(chosen) == 1, f"{each['kind']}/{name_of(each)} selects {chosen}"


def test_the_grace_period_covers_the_whole_drain(newest_helm: str) -> None:
    sets = ("drain.preStopSeconds=3", "drain.delaySeconds=7", "drain.timeoutSeconds=11")
    found = render(newest_helm, None, *sets, "edge.enabled=true")
    for part in SERVICES:
        pod = one(found, "Deployment", f"links-shortlinks-{part}")["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] == 3 + 7 + 11 + 10
        (container,) = pod["containers"]
        assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 3}}}
    settings = one(found, "ConfigMap", "links-shortlinks-writer")["data"]
    assert settings["SHORTLINKS_DRAIN_DELAY_MS"] == "7000"
    assert settings["SHORTLINKS_DRAIN_TIMEOUT_MS"] == "11000"


def templates(found: list[Manifest]) -> dict[str, Manifest]:
    return dict(pods(found))


@pytest.mark.parametrize(
    ("sets", "entries"),
    [
        (["cache.bundled.maxMemory=192mb"], "409"),
        (["cache.bundled.maxMemory=192mb", "settings.clicks_partitions=8"], "204"),
        (["cache.bundled.maxMemory=3g"], "5000"),
        (["cache.bundled.maxMemory=1mb"], "10"),
        (["settings.clicks_stream_max_length=77"], "77"),
    ],
)
def test_unread_clicks_leave_three_quarters_of_the_bundled_valkey_to_links(
    newest_helm: str, sets: list[str], entries: str
) -> None:
    found = render(newest_helm, None, *sets)
    settings = one(found, "ConfigMap", "links-shortlinks-redirector")["data"]
    assert settings["SHORTLINKS_CLICKS_STREAM_MAX_LENGTH"] == entries


def test_a_dynamic_setting_rolls_no_pod(newest_helm: str) -> None:
    before = render(newest_helm)
    after = render(newest_helm, None, "dynamic.log_level=debug", "dynamic.l1_ttl_s=5")
    assert templates(before) == templates(after)
    assert (
        "l1_ttl_s: 5" in one(after, "ConfigMap", "links-shortlinks-dynamic")["data"]["dynamic.yaml"]
    )


@pytest.mark.parametrize(
    ("sets", "rolled"),
    [
        ("settings.redis_timeout_ms=40", {"writer", "redirector", "relay", "worker"}),
        ("redirector.settings.l1_max_entries=5000", {"redirector"}),
        ("credentials.revision=second", {"writer", "redirector", "relay", "worker"}),
        ("links.defaultDomain=sho.rt", {"writer", "redirector", "relay", "worker"}),
        ("redirector.image.tag=v9", {"redirector"}),
        ("writer.image.tag=v9", {"writer", "relay", "worker"}),
        ("relay.replicaCount=3", set()),
        ("worker.autoscaling.keda.enabled=true", set()),
        ("redirector.autoscaling.enabled=false", set()),
        ("metrics.serviceMonitor.enabled=true", set()),
    ],
)
def test_a_change_rolls_only_the_pods_that_it_concerns(
    newest_helm: str, sets: str, rolled: set[str]
) -> None:
    before, after = templates(render(newest_helm)), templates(render(newest_helm, None, sets))
    changed = {
        title.rpartition("-")[2]
        for title in before.keys() & after.keys()
        if title.startswith("Deployment/") and before[title] != after[title]
    }
    assert changed == rolled


def test_a_job_has_a_new_name_exactly_when_its_pod_is_another(newest_helm: str) -> None:
    def jobs(*sets: str) -> dict[str, Any]:
        found = render(newest_helm, None, *sets)
        return {name_of(each): each["spec"] for each in found if each["kind"] == "Job"}

    before = jobs()
    for same in ("relay.replicaCount=3", "dynamic.log_level=debug", "settings.redis_timeout_ms=9"):
        assert jobs(same) == before
    for other in ("writer.image.tag=v9", "commonLabels.team=a", "podSecurityContext.runAsUser=5"):
        after = jobs(other)
        assert len(after) == len(before)
        assert not after.keys() & before.keys(), other


def test_a_new_version_of_the_chart_alone_rolls_no_pod_and_changes_no_job(
    newest_helm: str, tmp_path: Path
) -> None:
    copy = tmp_path / "shortlinks"
    shutil.copytree(CHART, copy)
    chart = copy / "Chart.yaml"
    chart.write_text(chart.read_text().replace("\nversion: ", "\nversion: 9"))
    before = templates(render(newest_helm))
    after = templates(manifests(template(newest_helm, chart=copy)))
    of_the_test = "Pod/links-shortlinks-test"
    assert before.pop(of_the_test) != after.pop(of_the_test)
    assert before == after


def test_relay_and_migrations_do_not_go_through_the_pooler(newest_helm: str) -> None:
    found = render(newest_helm, CASES[[case.stem for case in CASES].index("cnpg")])

    def url(part: str) -> str:
        settings = one(found, "ConfigMap", f"links-shortlinks-{part}")["data"]
        return str(settings["SHORTLINKS_POSTGRES_URL"])

    assert "@links-shortlinks-pooler-rw:5432/" in url("writer")
    assert "@links-shortlinks-pooler-rw:5432/" in url("redirector")
    assert "@links-shortlinks-postgresql-rw:5432/" in url("relay")
    (job,) = [each for each in found if each["kind"] == "Job" and "-migrate-" in name_of(each)]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert "@links-shortlinks-postgresql-rw:5432/" in environment["SHORTLINKS_POSTGRES_URL"]


def test_a_restore_of_cloudnativepg_takes_the_place_of_an_empty_database(newest_helm: str) -> None:
    sets = ("postgresql.mode=cnpg", "postgresql.cnpg.clusterSpec.bootstrap.recovery.source=origin")
    found = render(newest_helm, None, *sets)
    spec = one(found, "Cluster", "links-shortlinks-postgresql")["spec"]
    assert spec["bootstrap"] == {"recovery": {"source": "origin"}}


def test_changed_credentials_roll_what_reads_them_at_its_start_and_not_the_primary(
    newest_helm: str,
) -> None:
    sets = "postgresql.bundled.replica.enabled=true"
    before = templates(render(newest_helm, None, sets))
    after = templates(render(newest_helm, None, sets, "credentials.revision=second"))
    rolled = {title for title in before if before[title] != after[title]}
    stores = {
        "StatefulSet/links-shortlinks-valkey",
        "StatefulSet/links-shortlinks-postgresql-replica",
    }
    assert {title for title in rolled if title.startswith("StatefulSet/")} == stores


def test_the_redirector_waits_for_nothing(newest_helm: str) -> None:
    found = render(newest_helm)
    waiting = {"writer": True, "relay": True, "worker": True, "redirector": False}
    for part, waits in waiting.items():
        pod = one(found, "Deployment", f"links-shortlinks-{part}")["spec"]["template"]["spec"]
        assert ("initContainers" in pod) is waits, part


EXTERNAL = ("cache.mode=external", "cache.external.hosts={s0:1,s1:2}")


@pytest.mark.parametrize(
    ("sets", "kind", "place"),
    [
        (
            (),
            "redis-streams",
            {"address": "links-shortlinks-valkey.shortlinks.svc.cluster.local:6379"},
        ),
        (
            ("cache.mode=external", "cache.external.hosts={s0:1}", "cache.external.username=me"),
            "redis-streams",
            {"address": "s0:1", "databaseIndex": "0", "username": "me"},
        ),
        (
            (*EXTERNAL, "cache.external.topology=sentinel", "cache.external.masterName=links"),
            "redis-sentinel-streams",
            {"addresses": "s0:1,s1:2", "databaseIndex": "0", "sentinelMaster": "links"},
        ),
        (
            (*EXTERNAL, "cache.external.topology=cluster", "cache.external.tls.enabled=true"),
            "redis-cluster-streams",
            {"addresses": "s0:1,s1:2", "enableTLS": "true"},
        ),
    ],
    ids=["bundled", "single", "sentinel", "cluster"],
)
def test_keda_scales_the_worker_by_the_lag_of_every_stream(
    newest_helm: str, sets: tuple[str, ...], kind: str, place: dict[str, str]
) -> None:
    keda = ("worker.autoscaling.keda.enabled=true", "settings.clicks_partitions=3")
    found = render(newest_helm, None, *keda, *sets)
    triggers = one(found, "ScaledObject", "links-shortlinks-worker")["spec"]["triggers"]
    lag = {"consumerGroup": "worker", "lagCount": "100", "activationLagCount": "0"}
    assert [each["type"] for each in triggers] == [kind] * 3
    assert [each["metadata"] for each in triggers] == [
        {**lag, **place, "stream": f"sl:clicks:{{{stream}}}"} for stream in range(3)
    ]
    # These external servers have neither a password nor a CA certificate.
    assert all(("authenticationRef" in each) is (not sets) for each in triggers)


@pytest.mark.parametrize(
    ("sets", "rendered"),
    [
        ((), set()),
        (("worker.autoscaling.minReplicas=0",), {"pollingInterval", "cooldownPeriod"}),
        (
            (
                "worker.autoscaling.keda.triggers[0].type=cpu",
                "worker.autoscaling.keda.triggers[0].useCachedMetrics=true",
            ),
            {"pollingInterval"},
        ),
    ],
)
def test_keda_gets_the_intervals_that_it_uses_and_warns_about_none(
    newest_helm: str, sets: tuple[str, ...], rendered: set[str]
) -> None:
    found = render(newest_helm, None, "worker.autoscaling.keda.enabled=true", *sets)
    (scaled,) = [each for each in found if each["kind"] == "ScaledObject"]
    assert {"pollingInterval", "cooldownPeriod"} & set(scaled["spec"]) == rendered


def test_keda_reads_the_password_of_valkey_and_gets_through_its_policy(newest_helm: str) -> None:
    def peers(*sets: str) -> list[Manifest]:
        policy = one(render(newest_helm, None, *sets), "NetworkPolicy", "links-shortlinks-valkey")
        found: list[Manifest] = policy["spec"]["ingress"][0]["from"]
        return found

    keda = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}
    enabled = "worker.autoscaling.keda.enabled=true"
    assert keda not in peers()
    assert keda in peers(enabled)
    assert keda not in peers(enabled, "worker.enabled=false")
    found = render(newest_helm, None, enabled)
    authentication = one(found, "TriggerAuthentication", "links-shortlinks-worker")["spec"]
    secret = {"name": "links-shortlinks-credentials", "key": "valkey-password"}
    assert authentication == {"secretTargetRef": [{"parameter": "password", **secret}]}
    triggers = one(found, "ScaledObject", "links-shortlinks-worker")["spec"]["triggers"]
    assert {each["authenticationRef"]["name"] for each in triggers} == {"links-shortlinks-worker"}


def test_only_workers_may_send_webhooks_and_only_to_public_addresses(newest_helm: str) -> None:
    found = render(newest_helm)
    blocks = {
        part: [
            peer["ipBlock"]
            for rule in one(found, "NetworkPolicy", f"links-shortlinks-{part}")["spec"]["egress"]
            for peer in rule.get("to", [])
            if "ipBlock" in peer
        ]
        for part in ("writer", "redirector", "relay", "worker")
    }
    assert [part for part, found in blocks.items() if found] == ["worker"]
    four, six = blocks["worker"]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} < set(four["except"])
    assert set(six["except"]) == {"fc00::/7", "fe80::/10"}


def test_an_absent_worker_is_an_alert_unless_keda_may_scale_to_zero(newest_helm: str) -> None:
    def late(*sets: str) -> str:
        found = render(newest_helm, None, "metrics.prometheusRule.enabled=true", *sets)
        (group,) = one(found, "PrometheusRule", "links-shortlinks")["spec"]["groups"]
        (rule,) = [each for each in group["rules"] if each["alert"] == "ShortlinksClicksLate"]
        return str(rule["expr"])

    keda = "worker.autoscaling.keda.enabled=true"
    assert "or vector(0)) == 0" in late()
    assert "or vector(0)) == 0" in late(keda)
    assert "or vector(0)) == 0" not in late(keda, "worker.autoscaling.minReplicas=0")


def test_the_admin_ports_are_in_no_public_service(newest_helm: str) -> None:
    for each in render(newest_helm, None, "edge.enabled=true"):
        if each["kind"] == "Service" and not name_of(each).endswith("-metrics"):
            targets = {port["targetPort"] for port in each["spec"]["ports"]}
            assert targets <= {"http", "postgresql", "valkey"}, name_of(each)
