{{/* The addresses and URLs of PostgreSQL and Valkey. */}}

{{/* Whether the services read complete URLs from a Secret. */}}
{{- define "shortlinks.postgresqlByUrl" -}}
{{- if and (eq .Values.postgresql.mode "external") (not .Values.postgresql.external.host) }}true{{ end }}
{{- end }}

{{- define "shortlinks.cacheByUrl" -}}
{{- if and (eq .Values.cache.mode "external") (not .Values.cache.external.hosts) }}true{{ end }}
{{- end }}

{{- define "shortlinks.pooled" -}}
{{- if and (eq .Values.postgresql.mode "cnpg") .Values.postgresql.cnpg.pooler.enabled }}true{{ end }}
{{- end }}

{{/* host:port of the primary (root, direct) */}}
{{- define "shortlinks.postgresqlAddress" -}}
{{- $name := include "shortlinks.fullname" .root }}
{{- $postgresql := .root.Values.postgresql }}
{{- if eq $postgresql.mode "bundled" -}}
{{ $name }}-postgresql:5432
{{- else if eq $postgresql.mode "external" -}}
{{ $postgresql.external.host }}:{{ $postgresql.external.port }}
{{- else if and (include "shortlinks.pooled" .root) (not .direct) -}}
{{ $name }}-pooler-rw:5432
{{- else -}}
{{ $name }}-postgresql-rw:5432
{{- end }}
{{- end }}

{{/* host:port of the read replica for lookups; empty if lookups use the primary (root, direct) */}}
{{- define "shortlinks.postgresqlReadAddress" -}}
{{- $name := include "shortlinks.fullname" .root }}
{{- $postgresql := .root.Values.postgresql }}
{{- if eq $postgresql.mode "bundled" -}}
{{- if $postgresql.bundled.replica.enabled }}{{ $name }}-postgresql-replica:5432{{ end }}
{{- else if eq $postgresql.mode "external" -}}
{{- if $postgresql.external.readHost }}{{ $postgresql.external.readHost }}:{{ $postgresql.external.readPort }}{{ end }}
{{- else if gt (int $postgresql.cnpg.instances) 1 -}}
{{- if and (include "shortlinks.pooled" .root) (not .direct) }}{{ $name }}-pooler-ro:5432{{ else }}{{ $name }}-postgresql-ro:5432{{ end }}
{{- end }}
{{- end }}

{{- define "shortlinks.sslmode" -}}
{{- default (get (dict "bundled" "disable" "cnpg" "require" "external" "verify-full") .Values.postgresql.mode) .Values.postgresql.tls.mode }}
{{- end }}

{{/* URL without the password, which the services read from a file (root, address) */}}
{{- define "shortlinks.postgresqlUrl" -}}
{{- $postgresql := .root.Values.postgresql -}}
postgresql://{{ $postgresql.username | urlquery }}@{{ .address }}/{{ $postgresql.database | urlquery }}?sslmode={{ include "shortlinks.sslmode" .root }}
{{- if $postgresql.tls.caSecret }}&sslrootcert={{ include "shortlinks.certificates" .root }}/postgresql.crt{{ end }}
{{- end }}

{{- define "shortlinks.redisUrl" -}}
{{- if eq .Values.cache.mode "bundled" -}}
redis://{{ include "shortlinks.fullname" . }}-valkey:6379/0
{{- else -}}
{{- $cache := .Values.cache.external -}}
redis{{ if $cache.tls.enabled }}s{{ end }}
{{- if ne $cache.topology "single" }}+{{ $cache.topology }}{{ end }}://
{{- with $cache.username }}{{ . | urlquery }}@{{ end }}
{{- join "," $cache.hosts }}
{{- if eq $cache.topology "sentinel" }}/{{ $cache.masterName }}{{ end }}
{{- if ne $cache.topology "cluster" }}/{{ $cache.database }}{{ end }}
{{- if and $cache.tls.enabled $cache.tls.caSecret }}?ca={{ include "shortlinks.certificates" . }}/redis.crt{{ end }}
{{- end }}
{{- end }}
