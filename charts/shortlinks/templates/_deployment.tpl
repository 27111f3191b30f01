{{/* Templates that the Deployments of all components share (root, component, name, spec, values). */}}

{{- define "shortlinks.autoscaled" -}}
{{- if or .autoscaling.enabled .autoscaling.keda.enabled }}true{{ end }}
{{- end }}

{{/* A Deployment's spec without the pod template. */}}
{{- define "shortlinks.deploymentSpec" -}}
{{- if not (include "shortlinks.autoscaled" .values) -}}
replicas: {{ .values.replicaCount }}
{{ end -}}
revisionHistoryLimit: 5
strategy:
  type: {{ .values.strategy.type }}
  {{- if eq .values.strategy.type "RollingUpdate" }}
  rollingUpdate:
    maxSurge: {{ .values.strategy.rollingUpdate.maxSurge }}
    maxUnavailable: {{ .values.strategy.rollingUpdate.maxUnavailable }}
  {{- end }}
selector:
  matchLabels:
    {{- include "shortlinks.selector" . | nindent 4 }}
{{- end }}

{{/* Labels and annotations of a pod (checksum: of the configuration that is read only at startup). */}}
{{- define "shortlinks.podMetadata" -}}
labels:
  {{- include "shortlinks.podLabels" . | nindent 2 }}
annotations:
  kubectl.kubernetes.io/default-container: {{ .component }}
  # A change of the configuration that is read only at startup restarts the pods. The dynamic settings
  # are not part of the checksum.
  checksum/settings: {{ .checksum }}
  {{- with .root.Values.credentials.revision }}
  checksum/credentials: {{ . | quote }}
  {{- end }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* A pod's spec without containers and volumes. */}}
{{- define "shortlinks.podSpec" -}}
{{- $root := .root }}
{{- $drain := $root.Values.drain -}}
serviceAccountName: {{ include "shortlinks.serviceAccount" $root }}
automountServiceAccountToken: false
# Otherwise Kubernetes adds a variable for each Service, whose name could clash with a setting.
enableServiceLinks: false
{{- include "shortlinks.pullSecrets" $root }}
# The three phases of the shutdown, and 10 seconds to flush and close.
terminationGracePeriodSeconds: {{ add (int $drain.preStopSeconds) (int $drain.delaySeconds) (int $drain.timeoutSeconds) 10 }}
securityContext:
  {{- include "shortlinks.podSecurityContext" (dict "contexts" (list .values.podSecurityContext $root.Values.podSecurityContext)) | nindent 2 }}
{{- include "shortlinks.scheduling" . }}
{{- with .values.podSpec }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Ports, security context, resources, probes and preStop hook of a component's main container. */}}
{{- define "shortlinks.container" -}}
{{- $drain := .root.Values.drain -}}
ports:
  {{- with .spec.http }}
  - name: http
    containerPort: {{ . }}
    protocol: TCP
  {{- end }}
  - name: admin
    containerPort: {{ .spec.admin }}
    protocol: TCP
securityContext:
  {{- include "shortlinks.containerSecurityContext" (dict "context" .values.securityContext) | nindent 2 }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
# Startup and liveness probes check only the process, because a restart does not repair a database.
# Readiness means «started and not draining», never the state of a dependency.
startupProbe:
  {{- include "shortlinks.probe" (dict "path" "/livez" "probe" .values.startupProbe) | nindent 2 }}
livenessProbe:
  {{- include "shortlinks.probe" (dict "path" "/livez" "probe" .values.livenessProbe) | nindent 2 }}
readinessProbe:
  {{- include "shortlinks.probe" (dict "path" "/readyz" "probe" .values.readinessProbe) | nindent 2 }}
{{- if gt (int $drain.preStopSeconds) 0 }}
lifecycle:
  preStop:
    # The kubelet sleeps, so the image needs no shell.
    sleep:
      seconds: {{ $drain.preStopSeconds }}
{{- end }}
{{- end }}

{{/* A probe of `path` on the admin port, unless its values name another check (path, probe). */}}
{{- define "shortlinks.probe" -}}
{{- $own := false }}
{{- range $check := list "httpGet" "exec" "tcpSocket" "grpc" }}
{{- if hasKey $.probe $check }}
{{- $own = true }}
{{- end }}
{{- end }}
{{- if not $own -}}
httpGet: {path: {{ .path }}, port: admin}
{{ end -}}
{{- toYaml .probe }}
{{- end }}

{{- define "shortlinks.scheduling" -}}
{{- $spread := .values.topologySpreadConstraints }}
{{- if ne .values.spread "none" }}
{{- $selector := dict "matchLabels" (include "shortlinks.selector" . | fromYaml) }}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
{{- /* Spreading over zones is never required: on nodes without the label no pod would start. */}}
{{- $when := ternary "DoNotSchedule" "ScheduleAnyway" (and (eq $.values.spread "hard") (eq $key "kubernetes.io/hostname")) }}
{{- /* Spread each revision separately; otherwise the old pods of a rollout crowd the new ones together. */}}
{{- $spread = prepend $spread (dict "maxSkew" 1 "topologyKey" $key "whenUnsatisfiable" $when "labelSelector" $selector "matchLabelKeys" (list "pod-template-hash")) }}
{{- end }}
{{- end }}
{{- with $spread }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
