{{/* The environment of the services. */}}

{{/* Environment variables of the PostgreSQL connection, as a map (root, direct). */}}
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

{{/* A setting's value as text for an environment variable. */}}
{{- define "shortlinks.text" -}}
{{- if kindIs "slice" . }}{{ join "," . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}
{{- else }}{{ toString . }}
{{- end }}
{{- end }}

{{/* Number of click streams: the default of clicks_partitions, unless a setting replaces it. */}}
{{- define "shortlinks.clickStreams" -}}
{{- dig "clicks_partitions" 4 .Values.settings | int }}
{{- end }}

{{/* Maximum number of entries per click stream. An entry has up to 30 KB and is never evicted, so all
     streams together may use at most a quarter of Valkey's memory: a full Valkey would reject edits. */}}
{{- define "shortlinks.clickEntries" -}}
{{- $size := .Values.cache.bundled.maxMemory }}
{{- $units := dict "" 1 "b" 1 "k" 1000 "kb" 1024 "m" 1000000 "mb" 1048576 "g" 1000000000 "gb" 1073741824 }}
{{- $bytes := mul (regexFind "^[0-9]+" $size | int64) (get $units (regexFind "[a-z]*$" $size)) }}
{{- $streams := include "shortlinks.clickStreams" . | int }}
{{- div (div $bytes 4) (mul $streams 30720) | max 10 | min 5000 }}
{{- end }}

{{/* All environment variables of a component, as a map of texts (root, component, spec, values). */}}
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
