{{/* The pod of a service (root, component, name, spec, values). */}}
{{- define "shortlinks.pod" -}}
{{- $root := .root -}}
metadata:
  {{- include "shortlinks.podMetadata" (merge (dict "checksum" (include "shortlinks.environment" . | sha256sum)) .) | nindent 2 }}
spec:
  {{- include "shortlinks.podSpec" . | nindent 2 }}
  {{- if or .spec.waits .values.extraInitContainers }}
  initContainers:
    {{- with .values.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if .spec.waits }}
    - name: wait-schema
      {{- include "shortlinks.serviceImage" . | nindent 6 }}
      args: [wait-schema]
      {{- include "shortlinks.containerEnv" . | nindent 6 }}
      securityContext:
        {{- include "shortlinks.containerSecurityContext" (dict "context" .values.securityContext) | nindent 8 }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        {{- include "shortlinks.mounts" . | nindent 8 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .component }}
      {{- include "shortlinks.serviceImage" . | nindent 6 }}
      args: {{ toJson .spec.args }}
      {{- include "shortlinks.containerEnv" . | nindent 6 }}
      {{- include "shortlinks.container" . | nindent 6 }}
      volumeMounts:
        {{- include "shortlinks.mounts" . | nindent 8 }}
        {{- with .values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    - name: dynamic
      configMap:
        name: {{ include "shortlinks.fullname" $root }}-dynamic
    - {{ include "shortlinks.credentialsVolume" (dict "root" $root "only" "") | nindent 6 | trim }}
    {{- with include "shortlinks.certificatesVolume" (dict "root" $root "only" "") }}
    - {{ . | nindent 6 | trim }}
    {{- end }}
    {{- with .values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "shortlinks.serviceImage" -}}
{{- include "shortlinks.image" (dict "root" .root "image" (index .root.Values .spec.image).image) }}
{{- end }}

{{- define "shortlinks.containerEnv" -}}
envFrom:
  - configMapRef:
      name: {{ .name }}
  {{- with .values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "shortlinks.mounts" -}}
- name: tmp
  mountPath: /tmp
# A folder, not a subPath: Kubernetes never updates a file that is mounted with subPath.
- name: dynamic
  mountPath: /etc/shortlinks
  readOnly: true
- name: credentials
  mountPath: {{ include "shortlinks.credentials" .root }}
  readOnly: true
{{- if include "shortlinks.certificatesVolume" (dict "root" .root "only" "") }}
- name: certificates
  mountPath: {{ include "shortlinks.certificates" .root }}
  readOnly: true
{{- end }}
{{- end }}
