{{/* Where PostgreSQL and Valkey are, and what the services are told of it. */}}

{{- define "shortlinks.credentials" -}}
/run/shortlinks/credentials
{{- end }}

{{- define "shortlinks.certificates" -}}
/run/shortlinks/certificates
{{- end }}

{{- define "shortlinks.generatedSecret" -}}
{{- default (printf "%s-credentials" (include "shortlinks.fullname" .)) .Values.credentials.existingSecret }}
{{- end }}

{{- define "shortlinks.postgresqlSecret" -}}
{{- default (include "shortlinks.generatedSecret" .) .Values.postgresql.bundled.existingSecret }}
{{- end }}

{{- define "shortlinks.valkeySecret" -}}
{{- default (include "shortlinks.generatedSecret" .) .Values.cache.bundled.existingSecret }}
{{- end }}

{{/* Keys that nobody gave, one a line: what the credentials Job makes. */}}
{{- define "shortlinks.generatedKeys" -}}
{{- if not .Values.credentials.existingSecret }}
{{- if not .Values.credentials.codeSecret.existingSecret }}
code-secret
{{- end }}
{{- if and (eq .Values.postgresql.mode "bundled") (not .Values.postgresql.bundled.existingSecret) }}
postgresql-password
postgresql-admin-password
postgresql-replication-password
{{- end }}
{{- if and (eq .Values.cache.mode "bundled") (not .Values.cache.bundled.existingSecret) }}
valkey-password
{{- end }}
{{- end }}
{{- end }}

{{/* Whether the services get whole URLs from a Secret. */}}
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

{{/* host:port of a server for look-ups; nothing where that is the primary (root, direct) */}}
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

{{/* (root, address). The password is no part of it: it comes from a file, as it is. */}}
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

{{/* The environment that says where PostgreSQL is, as a map (root, direct). */}}
{{- define "shortlinks.postgresqlEnv" -}}
{{- $credentials := include "shortlinks.credentials" .root }}
{{- if include "shortlinks.postgresqlByUrl" .root }}
SHORTLINKS_POSTGRES_URL_FILE: {{ $credentials }}/postgres-url
{{- if .root.Values.postgresql.external.secretKeys.readUrl }}
SHORTLINKS_POSTGRES_READ_URL_FILE: {{ $credentials }}/postgres-read-url
{{- end }}
{{- else }}
SHORTLINKS_POSTGRES_URL: {{ include "shortlinks.postgresqlUrl" (dict "root" .root "address" (include "shortlinks.postgresqlAddress" .)) }}
{{- with include "shortlinks.postgresqlReadAddress" . }}
SHORTLINKS_POSTGRES_READ_URL: {{ include "shortlinks.postgresqlUrl" (dict "root" $.root "address" .) }}
{{- end }}
SHORTLINKS_POSTGRES_PASSWORD_FILE: {{ $credentials }}/postgres-password
{{- end }}
{{- if and (include "shortlinks.pooled" .root) (not .direct) }}
SHORTLINKS_POSTGRES_STATEMENT_CACHE: "0"
{{- end }}
{{- end }}

{{/* A setting's value as the text that the environment takes. */}}
{{- define "shortlinks.text" -}}
{{- if kindIs "slice" . }}{{ join "," . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}
{{- else }}{{ toString . }}
{{- end }}
{{- end }}

{{/* Entries that each click stream may keep. They are up to 30 KB and never evicted, so all streams
     together take a quarter of Valkey at the most: a full Valkey could not take a link's edits. */}}
{{- define "shortlinks.clickEntries" -}}
{{- $size := .Values.cache.bundled.maxMemory }}
{{- $units := dict "" 1 "b" 1 "k" 1000 "kb" 1024 "m" 1000000 "mb" 1048576 "g" 1000000000 "gb" 1073741824 }}
{{- $bytes := mul (regexFind "^[0-9]+" $size | int64) (get $units (regexFind "[a-z]*$" $size)) }}
{{- $streams := dig "clicks_partitions" (dig "clicks_partitions" 4 .Values.settings) .Values.redirector.settings }}
{{- div (div $bytes 4) (mul $streams 30720) | max 10 | min 5000 }}
{{- end }}

{{/* The whole environment of a part, as a map of texts (root, component, spec, values). */}}
{{- define "shortlinks.environment" -}}
{{- $root := .root }}
{{- $credentials := include "shortlinks.credentials" $root }}
{{- $environment := include "shortlinks.postgresqlEnv" (dict "root" $root "direct" .spec.direct) | fromYaml }}
{{- $_ := set $environment "SHORTLINKS_POSTGRES_POOL_SIZE" (toString .values.poolSize) }}
{{- if include "shortlinks.cacheByUrl" $root }}
{{- $_ := set $environment "SHORTLINKS_REDIS_URL_FILE" (printf "%s/redis-url" $credentials) }}
{{- else }}
{{- $_ := set $environment "SHORTLINKS_REDIS_URL" (include "shortlinks.redisUrl" $root) }}
{{- if or (eq $root.Values.cache.mode "bundled") $root.Values.cache.external.existingSecret }}
{{- $_ := set $environment "SHORTLINKS_REDIS_PASSWORD_FILE" (printf "%s/redis-password" $credentials) }}
{{- end }}
{{- end }}
{{- $_ := set $environment "SHORTLINKS_REDIS_PREFIX" $root.Values.cache.prefix }}
{{- $_ := set $environment "SHORTLINKS_CODE_SECRET_FILE" (printf "%s/code-secret" $credentials) }}
{{- $_ := set $environment "SHORTLINKS_DYNAMIC_FILE" "/etc/shortlinks/dynamic.yaml" }}
{{- $_ := set $environment "SHORTLINKS_LOG_FORMAT" "json" }}
{{- $_ := set $environment "SHORTLINKS_DRAIN_DELAY_MS" (mul 1000 (int $root.Values.drain.delaySeconds) | toString) }}
{{- $_ := set $environment "SHORTLINKS_DRAIN_TIMEOUT_MS" (mul 1000 (int $root.Values.drain.timeoutSeconds) | toString) }}
{{- $_ := set $environment "SHORTLINKS_DEFAULT_DOMAIN" $root.Values.links.defaultDomain }}
{{- $_ := set $environment "SHORTLINKS_SHORT_URL_SCHEME" $root.Values.links.scheme }}
{{- with $root.Values.links.port }}
{{- $_ := set $environment "SHORTLINKS_SHORT_URL_PORT" (toString .) }}
{{- end }}
{{- with $root.Values.links.trustedProxies }}
{{- $_ := set $environment "SHORTLINKS_TRUSTED_PROXIES" (join "," .) }}
{{- end }}
{{- with $root.Values.links.cdn }}
{{- if and .maxAgeSeconds (eq $.component "redirector") }}
{{- $_ := set $environment "SHORTLINKS_CDN_MAX_AGE_S" (int64 .maxAgeSeconds | toString) }}
{{- $_ := set $environment "SHORTLINKS_CDN_STALE_S" (int64 .staleSeconds | toString) }}
{{- $_ := set $environment "SHORTLINKS_CDN_KEY_HEADER" .keyHeader }}
{{- end }}
{{- end }}
{{- if and (eq $root.Values.cache.mode "bundled") (eq .component "redirector") }}
{{- $_ := set $environment "SHORTLINKS_CLICKS_STREAM_MAX_LENGTH" (include "shortlinks.clickEntries" $root) }}
{{- end }}
{{- range $settings := list $root.Values.settings .values.settings }}
{{- range $key, $value := $settings }}
{{- $_ := set $environment (printf "SHORTLINKS_%s" (upper $key)) (include "shortlinks.text" $value) }}
{{- end }}
{{- end }}
{{- toYaml $environment }}
{{- end }}

{{/* The credentials as one folder of files. Readable by everybody in the container, for which there
     is one user only, whose number the chart does not know. (root, only: "postgresql" or nothing) */}}
{{- define "shortlinks.credentialsVolume" -}}
{{- $root := .root }}
{{- $postgresql := $root.Values.postgresql }}
{{- $cache := $root.Values.cache -}}
name: credentials
projected:
  defaultMode: 0444
  sources:
    {{- if include "shortlinks.postgresqlByUrl" $root }}
    - secret:
        name: {{ $postgresql.external.existingSecret }}
        items:
          - key: {{ $postgresql.external.secretKeys.url }}
            path: postgres-url
          {{- with $postgresql.external.secretKeys.readUrl }}
          - key: {{ . }}
            path: postgres-read-url
          {{- end }}
    {{- else if eq $postgresql.mode "external" }}
    - secret:
        name: {{ $postgresql.external.existingSecret }}
        items:
          - key: {{ $postgresql.external.secretKeys.password }}
            path: postgres-password
    {{- else if eq $postgresql.mode "cnpg" }}
    # CloudNativePG makes it, and changes it with the role's password.
    - secret:
        name: {{ include "shortlinks.fullname" $root }}-postgresql-app
        items:
          - key: password
            path: postgres-password
    {{- else }}
    - secret:
        name: {{ include "shortlinks.postgresqlSecret" $root }}
        items:
          - key: postgresql-password
            path: postgres-password
    {{- end }}
    {{- if ne .only "postgresql" }}
    {{- if include "shortlinks.cacheByUrl" $root }}
    - secret:
        name: {{ $cache.external.existingSecret }}
        items:
          - key: {{ $cache.external.secretKeys.url }}
            path: redis-url
    {{- else if eq $cache.mode "bundled" }}
    - secret:
        name: {{ include "shortlinks.valkeySecret" $root }}
        items:
          - key: valkey-password
            path: redis-password
    {{- else if $cache.external.existingSecret }}
    - secret:
        name: {{ $cache.external.existingSecret }}
        items:
          - key: {{ $cache.external.secretKeys.password }}
            path: redis-password
    {{- end }}
    {{- $code := $root.Values.credentials.codeSecret }}
    - secret:
        name: {{ default (include "shortlinks.generatedSecret" $root) $code.existingSecret }}
        items:
          - key: {{ ternary $code.key "code-secret" (ne $code.existingSecret "") }}
            path: code-secret
    {{- end }}
{{- end }}

{{/* Authorities' certificates, where there are any. (root, only) */}}
{{- define "shortlinks.certificatesVolume" -}}
{{- $tls := .root.Values.postgresql.tls }}
{{- $redis := .root.Values.cache.external.tls }}
{{- $redisCa := and (eq .root.Values.cache.mode "external") $redis.enabled $redis.caSecret (ne .only "postgresql") }}
{{- if or $tls.caSecret $redisCa -}}
name: certificates
projected:
  defaultMode: 0444
  sources:
    {{- with $tls.caSecret }}
    - secret:
        name: {{ . }}
        items:
          - key: {{ $tls.caKey }}
            path: postgresql.crt
    {{- end }}
    {{- if $redisCa }}
    - secret:
        name: {{ $redis.caSecret }}
        items:
          - key: {{ $redis.caKey }}
            path: redis.crt
    {{- end }}
{{- end }}
{{- end }}
