{{/* What the schema cannot say: rules over several values, each refused with a sentence. */}}
{{- define "shortlinks.validate" -}}
{{- $v := .Values }}
{{- $external := $v.postgresql.external }}
{{- if eq $v.postgresql.mode "external" }}
{{- if not $external.existingSecret }}
{{- fail "postgresql.mode is external, but postgresql.external.existingSecret is empty: name the Secret with the password (and set postgresql.external.host), or with whole URLs." }}
{{- end }}
{{- if and $external.readHost (not $external.host) }}
{{- fail "postgresql.external.readHost is set, but postgresql.external.host is not: set both, or keep both URLs in the Secret and name secretKeys.readUrl." }}
{{- end }}
{{- end }}
{{- if and (has (include "shortlinks.sslmode" .) (list "verify-ca" "verify-full")) (not $v.postgresql.tls.caSecret) (not (include "shortlinks.postgresqlByUrl" .)) }}
{{- fail (printf "TLS to PostgreSQL is %s, but postgresql.tls.caSecret is empty: name the Secret with the authority's certificate, or set postgresql.tls.mode to require (encrypted, but anybody could answer)." (include "shortlinks.sslmode" .)) }}
{{- end }}
{{- if and (eq $v.postgresql.mode "bundled") (not (has (include "shortlinks.sslmode" .) (list "disable" "prefer"))) }}
{{- fail "The bundled PostgreSQL speaks no TLS: leave postgresql.tls.mode empty, or choose postgresql.mode cnpg or external." }}
{{- end }}
{{- $cache := $v.cache.external }}
{{- if eq $v.cache.mode "external" }}
{{- if and (not $cache.hosts) (not $cache.existingSecret) }}
{{- fail "cache.mode is external: set cache.external.hosts, or name in cache.external.existingSecret the Secret with the whole URL." }}
{{- end }}
{{- if and (eq $cache.topology "sentinel") $cache.hosts (not $cache.masterName) }}
{{- fail "cache.external.topology is sentinel: set cache.external.masterName to the name of the master that the Sentinels watch." }}
{{- end }}
{{- if and (eq $cache.topology "single") (gt (len $cache.hosts) 1) }}
{{- fail "cache.external.topology is single, but there are several cache.external.hosts: choose sentinel or cluster." }}
{{- end }}
{{- if and (eq $cache.topology "cluster") (ne (int $cache.database) 0) }}
{{- fail "cache.external.database must be 0 with topology cluster: a cluster has one database." }}
{{- end }}
{{- end }}
{{- if and (not $v.credentials.generate) (include "shortlinks.generatedKeys" . | trim) }}
{{- fail (printf "credentials.generate is false, and nobody gives %s: name a Secret in credentials.existingSecret (or one for each part)." (include "shortlinks.generatedKeys" . | trim | replace "\n" ", ")) }}
{{- end }}
{{- if and $v.edge.enabled (not (and $v.writer.enabled $v.redirector.enabled)) }}
{{- fail "edge.enabled needs writer.enabled and redirector.enabled: it stands before both." }}
{{- end }}
{{- /* What other values write; said twice, one of them would silently lose. */}}
{{- $owned := dict "postgres_url" "postgresql" "postgres_read_url" "postgresql" "postgres_password" "postgresql.*.existingSecret" "postgres_pool_size" "<part>.poolSize" "postgres_statement_cache" "postgresql.cnpg.pooler" "redis_url" "cache" "redis_password" "cache.*.existingSecret" "redis_prefix" "cache.prefix" "code_secret" "credentials.codeSecret" "drain_delay_ms" "drain.delaySeconds" "drain_timeout_ms" "drain.timeoutSeconds" "default_domain" "links.defaultDomain" "short_url_scheme" "links.scheme" "short_url_port" "links.port" "trusted_proxies" "links.trustedProxies" "cdn_max_age_s" "links.cdn.maxAgeSeconds" "cdn_stale_s" "links.cdn.staleSeconds" "cdn_key_header" "links.cdn.keyHeader" "dynamic_file" "dynamic" "writer_port" "writer.service.port" "writer_admin_port" "nothing: it is fixed" "redirector_port" "redirector.service.port" "redirector_admin_port" "nothing: it is fixed" "relay_admin_port" "nothing: it is fixed" }}
{{- range $place, $settings := dict "settings" $v.settings "writer.settings" $v.writer.settings "redirector.settings" $v.redirector.settings "relay.settings" $v.relay.settings }}
{{- range $key, $_ := $settings }}
{{- /* Not by the schema: what Helm says of a property's name is not to be understood. */}}
{{- if not (regexMatch "^[a-z][a-z0-9_]*$" $key) }}
{{- fail (printf "%s.%s is no name of a setting: small letters, digits and _, as in redis_timeout_ms." $place $key) }}
{{- end }}
{{- with get $owned $key }}
{{- fail (printf "%s.%s is not set here, but by %s." $place $key .) }}
{{- end }}
{{- if hasKey $v.dynamic $key }}
{{- fail (printf "%s.%s is not set here, but by dynamic.%s, which takes effect without a restart." $place $key $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $spec := include "shortlinks.registry" . | fromYaml }}
{{- $c := index $v $name }}
{{- if $c.enabled }}
{{- range $key, $_ := $c.podSpec }}
{{- if has $key (list "affinity" "automountServiceAccountToken" "containers" "enableServiceLinks" "imagePullSecrets" "initContainers" "nodeSelector" "priorityClassName" "securityContext" "serviceAccountName" "terminationGracePeriodSeconds" "tolerations" "topologySpreadConstraints" "volumes") }}
{{- fail (printf "%s.podSpec.%s is written by the chart: see the value of its own." $name $key) }}
{{- end }}
{{- end }}
{{- if and $c.autoscaling.enabled $c.autoscaling.keda.enabled }}
{{- fail (printf "%s.autoscaling.enabled and %s.autoscaling.keda.enabled: choose one; KEDA makes a HorizontalPodAutoscaler of its own." $name $name) }}
{{- end }}
{{- if gt (int $c.autoscaling.minReplicas) (int $c.autoscaling.maxReplicas) }}
{{- fail (printf "%s.autoscaling.minReplicas (%d) is more than maxReplicas (%d)." $name (int $c.autoscaling.minReplicas) (int $c.autoscaling.maxReplicas)) }}
{{- end }}
{{- if and $c.autoscaling.enabled (not $c.autoscaling.targetCPU) (not $c.autoscaling.metrics) }}
{{- fail (printf "%s.autoscaling.enabled needs targetCPU or metrics: without either it would never scale." $name) }}
{{- end }}
{{- if and $c.autoscaling.keda.enabled (not $c.autoscaling.keda.triggers) }}
{{- fail (printf "%s.autoscaling.keda.enabled needs triggers." $name) }}
{{- end }}
{{- if and (eq (toString $c.rollout.maxUnavailable) "0") (eq (int $c.rollout.maxSurge) 0) }}
{{- fail (printf "%s.rollout.maxSurge and maxUnavailable are both 0: no rollout could ever begin." $name) }}
{{- end }}
{{- if $spec.http }}
{{- range $key, $_ := $c.service.spec }}
{{- if has $key (list "externalTrafficPolicy" "ports" "selector" "type") }}
{{- fail (printf "%s.service.spec.%s is written by the chart: see the value of its own." $name $key) }}
{{- end }}
{{- end }}
{{- if and $c.ingress.enabled (not $c.ingress.hosts) }}
{{- fail (printf "%s.ingress.enabled needs %s.ingress.hosts." $name $name) }}
{{- end }}
{{- if and $c.ingress.tls.issuer $c.ingress.tls.clusterIssuer }}
{{- fail (printf "%s.ingress.tls names an issuer and a clusterIssuer: choose one." $name) }}
{{- end }}
{{- if and $c.httpRoute.enabled (not $c.httpRoute.parentRefs) }}
{{- fail (printf "%s.httpRoute.enabled needs %s.httpRoute.parentRefs: the Gateways that it belongs to." $name $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- include "shortlinks.validateConnections" . }}
{{- end }}

{{/* Pods of a part at the most, those above the number during a rollout included. */}}
{{- define "shortlinks.mostPods" -}}
{{- $most := ternary .autoscaling.maxReplicas .replicas (or .autoscaling.enabled .autoscaling.keda.enabled) }}
{{- add (int $most) (int .rollout.maxSurge) }}
{{- end }}

{{/* A server that runs out of connections refuses them to whoever comes last, under the highest
load; so the sum is checked here, where it is a sentence. */}}
{{- define "shortlinks.validateConnections" -}}
{{- $v := .Values }}
{{- $direct := 0 }}
{{- $pooled := 0 }}
{{- $parts := list }}
{{- range $name, $spec := include "shortlinks.registry" . | fromYaml }}
{{- $c := index $v $name }}
{{- if and $c.enabled $spec.settings }}
{{- $pods := include "shortlinks.mostPods" $c | int }}
{{- /* A part that LISTENs holds one connection beside its pool. */}}
{{- $each := add (int $c.poolSize) (ternary 1 0 (default false $spec.direct)) }}
{{- if and (include "shortlinks.pooled" $) (not $spec.direct) }}
{{- $pooled = add $pooled (mul $pods $each) }}
{{- else }}
{{- $direct = add $direct (mul $pods $each) }}
{{- $parts = append $parts (printf "%s %d pods x %d" $name $pods $each) }}
{{- end }}
{{- end }}
{{- end }}
{{- if include "shortlinks.pooled" . }}
{{- $pooler := $v.postgresql.cnpg.pooler }}
{{- /* With one of its pods away the others take all clients. */}}
{{- $room := mul (max 1 (sub (int $pooler.instances) 1)) (int $pooler.maxClientConnections) }}
{{- if gt (int $pooled) (int $room) }}
{{- fail (printf "The services could open %d connections to the pooler, but with one of its %d pods away it accepts %d: lower maxReplicas or poolSize, or raise postgresql.cnpg.pooler.maxClientConnections or instances." (int $pooled) (int $pooler.instances) (int $room)) }}
{{- end }}
{{- $direct = add $direct (mul (int $pooler.instances) (int $pooler.poolSize)) }}
{{- $parts = append $parts (printf "pooler %d pods x %d" (int $pooler.instances) (int $pooler.poolSize)) }}
{{- end }}
{{- /* Two of the migration, three that PostgreSQL keeps for superusers, three for people and replicas. */}}
{{- $need := add $direct 8 }}
{{- $limit := int $v.postgresql.maxConnections }}
{{- if and (gt $limit 0) (gt (int $need) $limit) }}
{{- fail (printf "PostgreSQL could run out of connections: %s and 8 others make %d, but postgresql.maxConnections is %d. Lower maxReplicas or poolSize, or raise what the server accepts." (join ", " $parts) (int $need) $limit) }}
{{- end }}
{{- end }}
