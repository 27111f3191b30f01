{{/* The Secrets with credentials and CA certificates, and the folders where the services read them. */}}

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

{{/* Keys that no value provides, one per line: the credentials Job generates them. */}}
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

{{/* Volume with one file per credential. All users of the container may read the files, because the chart
     does not know the numeric user of the image. (root, only: "postgresql" or empty) */}}
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
    # CloudNativePG creates this Secret and updates it with the role's password.
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

{{/* CA certificates, if any are configured. (root, only) */}}
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
