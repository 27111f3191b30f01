{{/* The pod of a part (root, component, name, spec, values). */}}
{{- define "shortlinks.pod" -}}
{{- $root := .root }}
{{- $drain := $root.Values.drain -}}
metadata:
  labels:
    {{- include "shortlinks.podLabels" . | nindent 4 }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .component }}
    # A change of what is only read at the start rolls the pods; the dynamic settings are not in it.
    {{- if .spec.settings }}
    checksum/settings: {{ include "shortlinks.environment" . | sha256sum }}
    {{- else }}
    checksum/settings: {{ tpl ($root.Files.Get "files/edge.conf") $root | sha256sum }}
    {{- end }}
    {{- with $root.Values.credentials.revision }}
    checksum/credentials: {{ . | quote }}
    {{- end }}
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "shortlinks.serviceAccount" $root }}
  automountServiceAccountToken: false
  # The addresses of all Services as variables: noise, and names that settings could clash with.
  enableServiceLinks: false
  {{- include "shortlinks.pullSecrets" $root | replace "\n" "\n  " }}
  # The whole drain, and what it takes to flush and close.
  terminationGracePeriodSeconds: {{ add (int $drain.preStopSeconds) (int $drain.delaySeconds) (int $drain.timeoutSeconds) 10 }}
  securityContext:
    {{- include "shortlinks.podSecurityContext" (dict "root" $root "context" $root.Values.podSecurityContext) | nindent 4 }}
  {{- if or .spec.waits .values.extraInitContainers }}
  initContainers:
    {{- with .values.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if .spec.waits }}
    - name: wait-schema
      image: {{ include "shortlinks.image" (dict "root" $root "image" .spec.image) }}
      imagePullPolicy: {{ $root.Values.images.pullPolicy }}
      args: [wait-schema]
      {{- include "shortlinks.containerEnv" . | nindent 6 }}
      securityContext:
        {{- include "shortlinks.containerSecurityContext" . | nindent 8 }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      volumeMounts:
        {{- include "shortlinks.mounts" . | nindent 8 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "shortlinks.image" (dict "root" $root "image" .spec.image) }}
      imagePullPolicy: {{ $root.Values.images.pullPolicy }}
      {{- with .spec.args }}
      args: {{ toJson . }}
      {{- end }}
      {{- with include "shortlinks.containerEnv" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
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
        {{- include "shortlinks.containerSecurityContext" . | nindent 8 }}
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      # Startup and liveness ask the process alone: a restart repairs no database.
      startupProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 1
        timeoutSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      # Started and not draining; never the state of a dependency.
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      {{- if gt (int $drain.preStopSeconds) 0 }}
      lifecycle:
        preStop:
          # Done by the kubelet, so that the image needs no shell.
          sleep:
            seconds: {{ $drain.preStopSeconds }}
      {{- end }}
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
    {{- if .spec.settings }}
    - name: dynamic
      configMap:
        name: {{ include "shortlinks.fullname" $root }}-dynamic
    - {{ include "shortlinks.credentialsVolume" (dict "root" $root "only" "") | nindent 6 | trim }}
    {{- with include "shortlinks.certificatesVolume" (dict "root" $root "only" "") }}
    - {{ . | nindent 6 | trim }}
    {{- end }}
    {{- else }}
    - name: conf
      configMap:
        name: {{ .name }}
    {{- end }}
    {{- with .values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- include "shortlinks.scheduling" . | nindent 2 }}
  {{- with .values.podSpec }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "shortlinks.containerEnv" -}}
{{- if .spec.settings -}}
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
{{- else }}
{{- with .values.extraEnvFrom -}}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "shortlinks.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .spec.settings }}
# A folder, not a subPath: a file that is mounted by itself never changes.
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
{{- else }}
- name: conf
  mountPath: /etc/nginx/conf.d
  readOnly: true
{{- end }}
{{- end }}

{{- define "shortlinks.scheduling" -}}
{{- $spread := .values.topologySpreadConstraints }}
{{- if ne .values.spread "none" }}
{{- $selector := dict "matchLabels" (include "shortlinks.selector" . | fromYaml) }}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
{{- /* Zones are never a must: where nodes have no such label, nothing would start. */}}
{{- $when := ternary "DoNotSchedule" "ScheduleAnyway" (and (eq $.values.spread "hard") (eq $key "kubernetes.io/hostname")) }}
{{- /* Each revision is spread by itself; else the old pods of a rollout push the new ones together. */}}
{{- $spread = prepend $spread (dict "maxSkew" 1 "topologyKey" $key "whenUnsatisfiable" $when "labelSelector" $selector "matchLabelKeys" (list "pod-template-hash")) }}
{{- end }}
{{- end }}
{{- with $spread -}}
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
