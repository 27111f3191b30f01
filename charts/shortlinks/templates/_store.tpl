{{/* Templates that the bundled PostgreSQL and Valkey share (root, values). */}}
{{- define "shortlinks.storePod" -}}
serviceAccountName: {{ include "shortlinks.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- include "shortlinks.pullSecrets" .root }}
terminationGracePeriodSeconds: 60
securityContext:
  {{- include "shortlinks.podSecurityContext" (dict "contexts" (list .values.podSecurityContext)) | nindent 2 }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* (root, component, persistence) */}}
{{- define "shortlinks.storeClaim" -}}
# The API server adds kind and apiVersion: without them Argo CD would report a difference.
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: data
    {{- with .persistence.annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    accessModes: [ReadWriteOnce]
    volumeMode: Filesystem
    {{- with .persistence.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .persistence.size }}
{{- end }}
