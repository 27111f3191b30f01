{{/* Rules that involve several values, which the schema cannot express. Each error says what to do. */}}
{{- define "shortlinks.validate" -}}
{{- include "shortlinks.validateNames" . }}
{{- include "shortlinks.validatePostgresql" . }}
{{- include "shortlinks.validateCache" . }}
{{- include "shortlinks.validateCredentials" . }}
{{- include "shortlinks.validateSettings" . }}
{{- range $name, $spec := include "shortlinks.registry" . | fromYaml }}
{{- $values := index $.Values $name }}
{{- if $values.enabled }}
{{- include "shortlinks.validatePart" (dict "name" $name "values" $values) }}
{{- if $spec.streams }}
{{- include "shortlinks.validateStreams" (dict "root" $ "name" $name "values" $values) }}
{{- end }}
{{- if $spec.http }}
{{- include "shortlinks.validateService" (dict "name" $name "values" $values) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.edge.enabled (not (and .Values.writer.enabled .Values.redirector.enabled)) }}
{{- fail "edge.enabled needs writer.enabled and redirector.enabled: the edge forwards requests to both." }}
{{- end }}
{{- include "shortlinks.validateConnections" . }}
{{- end }}

{{/* Former names of values. */}}
{{- define "shortlinks.validateNames" -}}
{{- $v := .Values }}
{{- if hasKey $v "images" }}
{{- fail "images was replaced by one image per component: writer.image, redirector.image, edge.image, postgresql.bundled.image, cache.bundled.image (each with registry, repository, tag, digest, pullPolicy), and imagePullSecrets." }}
{{- end }}
{{- if hasKey $v.postgresql.bundled.replica "replicas" }}
{{- fail "postgresql.bundled.replica.replicas is now postgresql.bundled.replica.replicaCount." }}
{{- end }}
{{- range $name, $_ := include "shortlinks.registry" . | fromYaml }}
{{- $part := index $v $name }}
{{- $renamed := dict "replicas" "replicaCount" "pdb" "podDisruptionBudget" "rollout" "strategy.rollingUpdate" }}
{{- range $old, $new := $renamed }}
{{- if hasKey $part $old }}
{{- fail (printf "%s.%s is now %s.%s." $name $old $name $new) }}
{{- end }}
{{- end }}
{{- if hasKey $part.autoscaling "targetCPU" }}
{{- fail (printf "%s.autoscaling.targetCPU is now %s.autoscaling.targetCPUUtilizationPercentage." $name $name) }}
{{- end }}
{{- with $part.ingress }}
{{- if hasKey . "path" }}
{{- fail (printf "%s.ingress.path is now %s.ingress.hosts[].paths[].path." $name $name) }}
{{- end }}
{{- if kindIs "map" .tls }}
{{- fail (printf "%s.ingress.tls is now a list: [{secretName: …, hosts: […]}]. The issuer of cert-manager is an annotation, such as cert-manager.io/cluster-issuer." $name) }}
{{- end }}
{{- range .hosts }}
{{- if kindIs "string" . }}
{{- fail (printf "%s.ingress.hosts is now a list of objects: [{host: %s}]." $name .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "shortlinks.validatePostgresql" -}}
{{- $v := .Values }}
{{- $external := $v.postgresql.external }}
{{- $sslmode := include "shortlinks.sslmode" . }}
{{- if eq $v.postgresql.mode "external" }}
{{- if not $external.existingSecret }}
{{- fail "postgresql.mode is external, but postgresql.external.existingSecret is empty: name the Secret with the password (and set postgresql.external.host), or with complete URLs." }}
{{- end }}
{{- if and $external.readHost (not $external.host) }}
{{- fail "postgresql.external.readHost is set, but postgresql.external.host is not: set both, or keep both URLs in the Secret and name secretKeys.readUrl." }}
{{- end }}
{{- end }}
{{- $verifies := has $sslmode (list "verify-ca" "verify-full") }}
{{- if and $verifies (not $v.postgresql.tls.caSecret) (not (include "shortlinks.postgresqlByUrl" .)) }}
{{- fail (printf "TLS to PostgreSQL is %s, but postgresql.tls.caSecret is empty: name the Secret with the CA certificate, or set postgresql.tls.mode to require (encrypted, but without verifying the server's identity)." $sslmode) }}
{{- end }}
{{- if and (eq $v.postgresql.mode "bundled") (not (has $sslmode (list "disable" "prefer"))) }}
{{- fail "The bundled PostgreSQL has no TLS: leave postgresql.tls.mode empty, or choose postgresql.mode cnpg or external." }}
{{- end }}
{{- end }}

{{- define "shortlinks.validateCache" -}}
{{- $cache := .Values.cache.external }}
{{- if eq .Values.cache.mode "external" }}
{{- if and (not $cache.hosts) (not $cache.existingSecret) }}
{{- fail "cache.mode is external: set cache.external.hosts, or name in cache.external.existingSecret the Secret with the complete URL." }}
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
{{- end }}

{{- define "shortlinks.validateCredentials" -}}
{{- $missing := include "shortlinks.generatedKeys" . | trim }}
{{- if and (not .Values.credentials.generate) $missing }}
{{- fail (printf "credentials.generate is false, and no Secret provides %s: set credentials.existingSecret (or the existingSecret of each component)." ($missing | replace "\n" ", ")) }}
{{- end }}
{{- end }}

{{/* Settings that other values set. If both were accepted, one of them would be ignored silently. */}}
{{- define "shortlinks.ownedSettings" -}}
postgres_url: postgresql
postgres_read_url: postgresql
postgres_password: postgresql.*.existingSecret
postgres_pool_size: <part>.poolSize
postgres_statement_cache: postgresql.cnpg.pooler
redis_url: cache
redis_password: cache.*.existingSecret
redis_prefix: cache.prefix
code_secret: credentials.codeSecret
drain_delay_ms: drain.delaySeconds
drain_timeout_ms: drain.timeoutSeconds
default_domain: links.defaultDomain
short_url_scheme: links.scheme
short_url_port: links.port
trusted_proxies: links.trustedProxies
cdn_max_age_s: links.cdn.maxAgeSeconds
cdn_stale_s: links.cdn.staleSeconds
cdn_key_header: links.cdn.keyHeader
dynamic_file: dynamic
writer_port: writer.service.port
writer_admin_port: the chart, to a fixed port
redirector_port: redirector.service.port
redirector_admin_port: the chart, to a fixed port
relay_admin_port: the chart, to a fixed port
worker_admin_port: the chart, to a fixed port
{{- end }}

{{- define "shortlinks.validateSettings" -}}
{{- $v := .Values }}
{{- $owned := include "shortlinks.ownedSettings" . | fromYaml }}
{{- range $place, $settings := dict "settings" $v.settings "writer.settings" $v.writer.settings "redirector.settings" $v.redirector.settings "relay.settings" $v.relay.settings "worker.settings" $v.worker.settings }}
{{- range $key, $_ := $settings }}
{{- /* Not in the schema: Helm's message about a property's name is hard to understand. */}}
{{- if not (regexMatch "^[a-z][a-z0-9_]*$" $key) }}
{{- fail (printf "%s.%s is not the name of a setting: use lowercase letters, digits and _, as in redis_timeout_ms." $place $key) }}
{{- end }}
{{- with get $owned $key }}
{{- fail (printf "%s.%s cannot be set here. It is set by %s." $place $key .) }}
{{- end }}
{{- if and (eq $key "clicks_partitions") (ne $place "settings") }}
{{- fail (printf "%s.%s cannot be set here. Set settings.%s: redirectors and workers must have the same number." $place $key $key) }}
{{- end }}
{{- if hasKey $v.dynamic $key }}
{{- fail (printf "%s.%s cannot be set here. Set dynamic.%s, which takes effect without a restart." $place $key $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* (name, values) */}}
{{- define "shortlinks.validatePart" -}}
{{- $scale := .values.autoscaling }}
{{- $strategy := .values.strategy }}
{{- $written := list "affinity" "automountServiceAccountToken" "containers" "enableServiceLinks" "imagePullSecrets" "initContainers" "nodeSelector" "priorityClassName" "securityContext" "serviceAccountName" "terminationGracePeriodSeconds" "tolerations" "topologySpreadConstraints" "volumes" }}
{{- range $key, $_ := .values.podSpec }}
{{- if has $key $written }}
{{- fail (printf "%s.podSpec.%s is set by the chart: use the chart's own value for it." $.name $key) }}
{{- end }}
{{- end }}
{{- if gt (int $scale.minReplicas) (int $scale.maxReplicas) }}
{{- fail (printf "%s.autoscaling.minReplicas (%d) is more than maxReplicas (%d)." .name (int $scale.minReplicas) (int $scale.maxReplicas)) }}
{{- end }}
{{- $targets := or $scale.targetCPUUtilizationPercentage $scale.targetMemoryUtilizationPercentage $scale.metrics }}
{{- if and $scale.enabled (not $scale.keda.enabled) (not $targets) }}
{{- fail (printf "%s.autoscaling.enabled needs targetCPUUtilizationPercentage, targetMemoryUtilizationPercentage or metrics: without a metric it would never scale." .name) }}
{{- end }}
{{- if eq $strategy.type "RollingUpdate" }}
{{- if and (eq (toString $strategy.rollingUpdate.maxUnavailable) "0") (eq (int $strategy.rollingUpdate.maxSurge) 0) }}
{{- fail (printf "%s.strategy.rollingUpdate.maxSurge and maxUnavailable are both 0: no rollout could start." .name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Rules for a component that KEDA scales by the lag of the click streams (root, name, values). */}}
{{- define "shortlinks.validateStreams" -}}
{{- $scale := .values.autoscaling }}
{{- if and $scale.enabled (not $scale.keda.enabled) (eq (int $scale.minReplicas) 0) }}
{{- fail (printf "%s.autoscaling.minReplicas is 0, but only KEDA can scale to zero: enable %s.autoscaling.keda, or set minReplicas to 1 or more." .name .name) }}
{{- end }}
{{- if and $scale.keda.enabled $scale.keda.lagCount (include "shortlinks.cacheByUrl" .root) }}
{{- fail (printf "%s.autoscaling.keda cannot read the address of Valkey from a URL in a Secret: set cache.external.hosts, or set %s.autoscaling.keda.lagCount to null and name triggers of your own." .name .name) }}
{{- end }}
{{- end }}

{{/* Rules for a component with a Service (name, values). */}}
{{- define "shortlinks.validateService" -}}
{{- range $key, $_ := .values.service.spec }}
{{- if has $key (list "externalTrafficPolicy" "ports" "selector" "type") }}
{{- fail (printf "%s.service.spec.%s is set by the chart: use the chart's own value for it." $.name $key) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Maximum number of pods of a component, including the extra pods of a rollout. */}}
{{- define "shortlinks.mostPods" -}}
{{- $most := ternary .autoscaling.maxReplicas .replicaCount (eq (include "shortlinks.autoscaled" .) "true") }}
{{- add (int $most) (ternary (int .strategy.rollingUpdate.maxSurge) 0 (eq .strategy.type "RollingUpdate")) }}
{{- end }}

{{/* PostgreSQL refuses connections above max_connections, which would happen under the highest load. So
the maximum sum of all pools is checked here. */}}
{{- define "shortlinks.validateConnections" -}}
{{- $v := .Values }}
{{- $direct := 0 }}
{{- $pooled := 0 }}
{{- $parts := list }}
{{- range $name, $spec := include "shortlinks.registry" . | fromYaml }}
{{- $c := index $v $name }}
{{- if and $c.enabled $spec.settings }}
{{- $pods := include "shortlinks.mostPods" $c | int }}
{{- /* A component that uses LISTEN has one connection in addition to its pool. */}}
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
{{- /* If one pod of the pooler is down, the others take all clients. */}}
{{- $room := mul (max 1 (sub (int $pooler.instances) 1)) (int $pooler.maxClientConnections) }}
{{- if gt (int $pooled) (int $room) }}
{{- fail (printf "The services could open %d connections to the pooler, but with one of its %d pods down it accepts only %d: lower maxReplicas or poolSize, or raise postgresql.cnpg.pooler.maxClientConnections or instances." (int $pooled) (int $pooler.instances) (int $room)) }}
{{- end }}
{{- $direct = add $direct (mul (int $pooler.instances) (int $pooler.poolSize)) }}
{{- $parts = append $parts (printf "pooler %d pods x %d" (int $pooler.instances) (int $pooler.poolSize)) }}
{{- end }}
{{- /* Two for the migration, three that PostgreSQL reserves for superusers, three for administrators and replicas. */}}
{{- $need := add $direct 8 }}
{{- $limit := int $v.postgresql.maxConnections }}
{{- if and (gt $limit 0) (gt (int $need) $limit) }}
{{- fail (printf "PostgreSQL could run out of connections: %s plus 8 others are %d, but postgresql.maxConnections is %d. Lower maxReplicas or poolSize, or raise what the server accepts." (join ", " $parts) (int $need) $limit) }}
{{- end }}
{{- end }}
