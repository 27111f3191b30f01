{{/* What KEDA needs to scale a component by the lag of the click streams. */}}

{{/* Whether a component has these triggers (spec, values). */}}
{{- define "shortlinks.scaledByLag" -}}
{{- if and .spec.streams .values.enabled .values.autoscaling.keda.enabled .values.autoscaling.keda.lagCount }}true{{ end }}
{{- end }}

{{/* Parameters of the TriggerAuthentication that come from Secrets, as a list; empty if Valkey has no
     password and no CA certificate (root). */}}
{{- define "shortlinks.streamSecrets" -}}
{{- $cache := .Values.cache -}}
{{- if eq $cache.mode "bundled" }}
- {parameter: password, name: {{ include "shortlinks.valkeySecret" . }}, key: valkey-password}
{{- else }}
{{- with $cache.external.existingSecret }}
- {parameter: password, name: {{ . }}, key: {{ $cache.external.secretKeys.password }}}
{{- end }}
{{- if and $cache.external.tls.enabled $cache.external.tls.caSecret }}
- {parameter: ca, name: {{ $cache.external.tls.caSecret }}, key: {{ $cache.external.tls.caKey }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Triggers of a ScaledObject, one for each click stream (root, name, keda: its values). */}}
{{- define "shortlinks.streamTriggers" -}}
{{- $cache := .root.Values.cache -}}
{{- $metadata := dict "consumerGroup" "worker" "lagCount" (toString .keda.lagCount) "activationLagCount" (toString .keda.activationLagCount) }}
{{- $type := "redis-streams" }}
{{- if eq $cache.mode "bundled" }}
{{- /* KEDA runs in another namespace, so the short name of the Service is not enough. */}}
{{- $_ := set $metadata "address" (printf "%s-valkey.%s.svc.%s:6379" (include "shortlinks.fullname" .root) .root.Release.Namespace .root.Values.clusterDomain) }}
{{- else }}
{{- $external := $cache.external }}
{{- if eq $external.topology "single" }}
{{- $_ := set $metadata "address" (first $external.hosts) }}
{{- else }}
{{- $type = printf "redis-%s-streams" $external.topology }}
{{- $_ := set $metadata "addresses" (join "," $external.hosts) }}
{{- end }}
{{- if eq $external.topology "sentinel" }}
{{- $_ := set $metadata "sentinelMaster" $external.masterName }}
{{- end }}
{{- if ne $external.topology "cluster" }}
{{- $_ := set $metadata "databaseIndex" (toString $external.database) }}
{{- end }}
{{- with $external.username }}
{{- $_ := set $metadata "username" . }}
{{- end }}
{{- if $external.tls.enabled }}
{{- $_ := set $metadata "enableTLS" "true" }}
{{- end }}
{{- end }}
{{- $triggers := list }}
{{- range $stream := until (include "shortlinks.clickStreams" .root | int) }}
{{- $trigger := dict "type" $type "metadata" (merge (dict "stream" (printf "%sclicks:{%d}" $.root.Values.cache.prefix $stream)) $metadata) }}
{{- if include "shortlinks.streamSecrets" $.root | trim }}
{{- $_ := set $trigger "authenticationRef" (dict "name" $.name) }}
{{- end }}
{{- $triggers = append $triggers $trigger }}
{{- end }}
{{- toYaml $triggers }}
{{- end }}
