{{/* Name of a component's objects: (list $ component). spanhook itself has the release's. */}}
{{- define "spanhook.name" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}
{{- $full := $root.Values.fullnameOverride | default (contains "spanhook" $root.Release.Name | ternary $root.Release.Name (printf "%s-spanhook" $root.Release.Name)) | trunc 50 | trimSuffix "-" }}
{{- eq $component "serve" | ternary $full (printf "%s-%s" $full $component) }}
{{- end }}

{{/* Whose values a component has: forwarders are spanhook with another role. */}}
{{- define "spanhook.valuesOf" -}}
{{- eq . "forward" | ternary "serve" . }}
{{- end }}

{{/* What selects a component's pods, or with "" all of the release's. */}}
{{- define "spanhook.selector" -}}
{{- $root := index . 0 }}{{ $component := index . 1 -}}
app.kubernetes.io/name: spanhook
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with $component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "spanhook.labels" -}}
{{- $root := index . 0 -}}
{{ include "spanhook.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* (list $ component [annotations of its own [suffix of its name]]) */}}
{{- define "spanhook.metadata" -}}
{{- $root := index . 0 }}{{ $component := index . 1 -}}
name: {{ include "spanhook.name" . }}{{ if gt (len .) 3 }}{{ index . 3 }}{{ end }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "spanhook.labels" (list $root $component) | nindent 2 }}
{{- with merge (dict) (gt (len .) 2 | ternary (index (append . dict) 2) dict) $root.Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Metadata of a component's pods. What its environment takes from the chart's Secrets and its ConfigMap is read
     at the start only, so a change starts it anew. A key that the chart made never changes. */}}
{{- define "spanhook.podMetadata" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $values := index $root.Values (include "spanhook.valuesOf" $component) -}}
labels:
  {{- include "spanhook.selector" . | nindent 2 }}
  {{- with merge (dict) $values.podLabels $root.Values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/config: {{ list $values.secrets $root.Values.signingKey (eq $component "collector" | ternary $values.config "") | toJson | sha256sum }}
  {{- with $values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "spanhook.serviceAccountName" -}}
{{- $root := index . 0 }}{{ $owner := include "spanhook.valuesOf" (index . 1) -}}
{{ (index $root.Values $owner).serviceAccount.name | default (include "spanhook.name" (list $root $owner)) }}
{{- end }}

{{/* What all pods have in common: (list $ component user). */}}
{{- define "spanhook.pod" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $user := index . 2 }}{{ $values := index $root.Values (include "spanhook.valuesOf" $component) -}}
serviceAccountName: {{ include "spanhook.serviceAccountName" . }}
# Only the relay asks the API server.
automountServiceAccountToken: {{ eq $component "relay" }}
enableServiceLinks: false
# A full name is asked for as it is, not first under the search list: fewer questions, and a Cilium policy needs to
# list one form only.
dnsConfig:
  options:
    - name: ndots
      value: "1"
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  fsGroup: {{ $user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $field := list "priorityClassName" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with index $values $field }}
{{ dict $field . | toYaml }}
{{- end }}
{{- end }}
{{- end }}

{{/* What all containers have in common: (list $ component). */}}
{{- define "spanhook.container" -}}
{{- $root := index . 0 }}{{ $values := index $root.Values (include "spanhook.valuesOf" (index . 1)) -}}
{{- with $values.image -}}
image: {{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $root.Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ .pullPolicy }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml $values.resources | nindent 2 }}
{{- end }}

{{/* Environment: (list $ component plain values), with its secrets and what else is given. */}}
{{- define "spanhook.env" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $owner := include "spanhook.valuesOf" $component }}{{ $values := index $root.Values $owner }}
{{- range $name, $value := index . 2 }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $name }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := $values.secrets | default dict }}
{{- /* Of receivers and forwarders apart each has its own secrets: what proves a webhook, or the Collector's headers. */}}
{{- $apart := and (eq $owner "serve") $root.Values.serve.forwarders }}
{{- if or (not $apart) (eq (eq $component "forward") (regexMatch "^(OTEL_EXPORTER|CIRCLECI)_OTLP_" $name)) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      {{- include "spanhook.secretKey" (list $value (include "spanhook.name" (list $root $owner)) $name) | nindent 6 }}
{{- end }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Where a secret is: (list value, name of the chart's Secret, key). */}}
{{- define "spanhook.secretKey" -}}
{{- $value := index . 0 -}}
{{- if kindIs "map" $value -}}
name: {{ $value.secret }}
key: {{ $value.key | default (index . 2) }}
{{- else -}}
name: {{ index . 1 }}
key: {{ index . 2 }}
{{- end }}
{{- end }}

{{/* A volume of a StatefulSet. No labels that an upgrade would change: Kubernetes lets nobody change this. */}}
{{- define "spanhook.claim" -}}
spec:
  accessModes: [ReadWriteOnce]
  {{- with .storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .size }}
{{- end }}
