{{/* Names, labels and images. */}}

{{- define "shortlinks.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* A DNS label has at most 63 characters: 40 leave room for the longest suffix. */}}
{{- define "shortlinks.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Selector labels. They must never change, because a Deployment's selector is immutable. (root, component) */}}
{{- define "shortlinks.selector" -}}
app.kubernetes.io/name: {{ include "shortlinks.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Pod labels. None contains the chart's version: a new version alone must not restart pods, and a Job's
     pod template is immutable. (root, component, values?) */}}
{{- define "shortlinks.podLabels" -}}
{{- $labels := include "shortlinks.selector" . | fromYaml }}
{{- $_ := set $labels "app.kubernetes.io/part-of" "shortlinks" }}
{{- merge $labels (default dict (default dict .values).podLabels) .root.Values.commonLabels | toYaml }}
{{- end }}

{{/* Name, namespace, labels and annotations of an object.
     (root, name, component?, wave?, annotations?, labels?) */}}
{{- define "shortlinks.metadata" -}}
{{- $labels := dict
  "app.kubernetes.io/name" (include "shortlinks.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/part-of" "shortlinks"
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
}}
{{- with .component }}
{{- $_ := set $labels "app.kubernetes.io/component" . }}
{{- end }}
{{- $annotations := merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
{{- if and .root.Values.argocd.syncWaves .wave }}
{{- $_ := set $annotations "argocd.argoproj.io/sync-wave" (toString .wave) }}
{{- end -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- merge $labels (default dict .labels) .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* `image` and `imagePullPolicy` of a container (root, image: its values) */}}
{{- define "shortlinks.image" -}}
{{- $image := .image }}
{{- $registry := default $image.registry .root.Values.global.imageRegistry }}
{{- $tag := default .root.Chart.AppVersion $image.tag -}}
image: {{ if $registry }}{{ $registry }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $tag }}{{ end }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end }}

{{/* Starts with a line break unless it is empty. */}}
{{- define "shortlinks.pullSecrets" -}}
{{- with concat .Values.imagePullSecrets .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "shortlinks.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "shortlinks.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Container security context for the `restricted` Pod Security Standard; keys of `context` take
     precedence (context?). */}}
{{- define "shortlinks.containerSecurityContext" -}}
{{- $default := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) }}
{{- merge (dict) (default dict .context) $default | toYaml }}
{{- end }}

{{/* Pod security context for the `restricted` Pod Security Standard. The first context that has a key
     takes precedence, and a null removes the key (contexts: a list). */}}
{{- define "shortlinks.podSecurityContext" -}}
{{- $merged := dict }}
{{- range append .contexts (dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault")) }}
{{- range $key, $value := . }}
{{- if not (hasKey $merged $key) }}
{{- $_ := set $merged $key $value }}
{{- end }}
{{- end }}
{{- end }}
{{- $context := dict }}
{{- range $key, $value := $merged }}
{{- if not (kindIs "invalid" $value) }}
{{- $_ := set $context $key $value }}
{{- end }}
{{- end }}
{{- toYaml $context }}
{{- end }}

{{/* The first eight characters of the text's hash. */}}
{{- define "shortlinks.hash" -}}
{{- . | sha256sum | trunc 8 }}
{{- end }}
