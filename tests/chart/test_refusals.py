"""Values that cannot work are refused with a sentence that says what to do."""

import pytest
from chart.rendering import ROOT, Refused, template

REFUSED = {
    # What the schema says.
    "postgresql.mode=oracle": "'bundled', 'cnpg', 'external'",
    "wrter.replicaCount=1": "'wrter' not allowed",
    "writer.replicaCnt=1": "'replicaCnt' not allowed",
    "writer.replicaCount=many": "got string, want integer",
    "writer.image.digest=latest": "/writer/image/digest",
    "links.defaultDomain=https://sho.rt": "/links/defaultDomain",
    "dynamic.log_level=loud": "/dynamic/log_level",
    "dynamic.default_redirect_status=200": "/dynamic/default_redirect_status",
    "dynamic.l1_ttl=3": "'l1_ttl' not allowed",
    "cache.external.hosts={redis://a}": "/cache/external/hosts/0",
    "cache.bundled.maxMemoryPolicy=allkeys-lru": "/cache/bundled/maxMemoryPolicy",
    "redirector.spread=wide": "'soft', 'hard', 'none'",
    "metrics.prometheusRule.disabled={ShortlinksSlow}": "/metrics/prometheusRule/disabled/0",
    # What several values say together.
    "postgresql.mode=external": "postgresql.external.existingSecret is empty",
    "postgresql.mode=external,postgresql.external.existingSecret=db,postgresql.external.host=db": (
        "TLS to PostgreSQL is verify-full, but postgresql.tls.caSecret is empty"
    ),
    "postgresql.mode=external,postgresql.external.existingSecret=a,postgresql.external.readHost=b": (
        "postgresql.external.host is not"
    ),
    "postgresql.tls.mode=require": "The bundled PostgreSQL has no TLS",
    "cache.mode=external": "set cache.external.hosts",
    "cache.mode=external,cache.external.hosts={a:1},cache.external.topology=sentinel": "masterName",
    "cache.mode=external,cache.external.hosts={a:1,b:2}": "choose sentinel or cluster",
    "cache.mode=external,cache.external.hosts={a:1},cache.external.topology=cluster,cache.external.database=2": (
        "a cluster has one database"
    ),
    "credentials.generate=false": "no Secret provides code-secret, postgresql-password",
    "edge.enabled=true,writer.enabled=false": "edge.enabled needs",
    "redirector.autoscaling.minReplicas=11": "minReplicas (11) is more than maxReplicas (10)",
    "writer.autoscaling.targetCPUUtilizationPercentage=null": "would never scale",
    "writer.autoscaling.keda.enabled=true": "/writer/autoscaling/keda/triggers",
    "worker.autoscaling.keda.enabled=true,worker.autoscaling.keda.lagCount=null": (
        "/worker/autoscaling/keda/triggers"
    ),
    "worker.autoscaling.enabled=true,worker.autoscaling.minReplicas=0": "only KEDA can scale to zero",
    "worker.autoscaling.keda.enabled=true,cache.mode=external,cache.external.existingSecret=c": (
        "set cache.external.hosts, or set worker.autoscaling.keda.lagCount to null"
    ),
    "redirector.settings.clicks_partitions=8": "Set settings.clicks_partitions",
    "worker.settings.worker_admin_port=1": "worker.settings.worker_admin_port cannot be set here",
    "writer.strategy.rollingUpdate.maxSurge=0": "no rollout could start",
    "writer.ingress.enabled=true": "/writer/ingress/hosts",
    "redirector.httpRoute.enabled=true": "/redirector/httpRoute/parentRefs",
    "settings.redis_url=redis://a": "settings.redis_url cannot be set here. It is set by cache.",
    "writer.settings.writer_port=1": "writer.settings.writer_port cannot be set here",
    "relay.settings.log_level=info": "Set dynamic.log_level",
    "settings.redisTimeoutMs=40": "settings.redisTimeoutMs is not the name of a setting",
    "writer.podSpec.serviceAccountName=mine": "writer.podSpec.serviceAccountName is set by",
    "redirector.service.spec.ports=80": "redirector.service.spec.ports is set by the chart",
    # Connections.
    "redirector.autoscaling.enabled=false,redirector.replicaCount=60": (
        "postgresql.maxConnections is 200"
    ),
    "redirector.autoscaling.maxReplicas=60": ("redirector 61 pods x 4"),
    "postgresql.mode=cnpg,postgresql.maxConnections=40": "pooler 2 pods x 20",
    "postgresql.mode=cnpg,postgresql.cnpg.pooler.maxClientConnections=20": (
        "with one of its 2 pods down it accepts only 20"
    ),
}


RENAMED = {
    "images.writer.tag=v9": "writer.image, redirector.image",
    "writer.replicas=3": "writer.replicas is now writer.replicaCount.",
    "redirector.pdb.enabled=false": "redirector.pdb is now redirector.podDisruptionBudget.",
    "relay.rollout.maxSurge=2": "relay.rollout is now relay.strategy.rollingUpdate.",
    "edge.autoscaling.targetCPU=50": "is now edge.autoscaling.targetCPUUtilizationPercentage.",
    "writer.ingress.path=/": "writer.ingress.path is now writer.ingress.hosts[].paths[].path.",
    "writer.ingress.hosts={api.sho.rt}": "writer.ingress.hosts is now a list of objects: [{host: api.sho.rt}].",
    "edge.ingress.tls.enabled=true": "edge.ingress.tls is now a list",
    "postgresql.bundled.replica.replicas=2": "postgresql.bundled.replica.replicaCount.",
}


@pytest.mark.parametrize("sets", RENAMED)
def test_a_former_name_is_refused_with_the_new_one(helm: str, sets: str) -> None:
    with pytest.raises(Refused) as refused:
        template(helm, sets=[sets])
    assert RENAMED[sets] in str(refused.value)


@pytest.mark.parametrize("sets", REFUSED)
def test_what_cannot_work_is_refused_with_a_sentence(helm: str, sets: str) -> None:
    with pytest.raises(Refused) as refused:
        template(helm, sets=[sets])
    assert REFUSED[sets] in str(refused.value)


@pytest.mark.parametrize(
    "sets",
    [
        # The most that 200 connections allow: 32 x 4 + 3 x (3 + 1) + 2 x 2 + 6 x 8 + 8.
        "redirector.autoscaling.enabled=false,redirector.replicaCount=31",
        "redirector.autoscaling.maxReplicas=31",
        "redirector.autoscaling.maxReplicas=60,postgresql.maxConnections=0",
        "redirector.autoscaling.maxReplicas=60,postgresql.maxConnections=400",
        "redirector.autoscaling.maxReplicas=60,postgresql.mode=cnpg",
    ],
)
def test_what_fits_the_server_is_rendered(helm: str, sets: str) -> None:
    template(helm, sets=[sets])


def test_one_redirector_more_than_fits_is_refused(helm: str) -> None:
    with pytest.raises(Refused, match=r"are 204, but postgresql\.maxConnections is 200"):
        template(helm, sets=["redirector.autoscaling.maxReplicas=32"])


def test_an_older_kubernetes_is_refused(helm: str) -> None:
    with pytest.raises(Refused, match="kubeVersion"):
        template(helm, kubernetes="1.30")


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_the_environments_in_git_are_rendered(helm: str, environment: str) -> None:
    folder = ROOT / "argocd" / "envs" / environment
    assert template(helm, folder / "values.yaml", folder / "images.yaml")
