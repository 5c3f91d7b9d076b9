{{/* The plain settings of serve as JSON: what follows from other values, under what is configured. */}}
{{- define "spanhook.serve.config" -}}
{{- $values := .Values }}
{{- $sources := and $values.relay.enabled (hasKey $values.serve.secrets "LIGHTHOUSE_HMAC_KEY") | ternary "both" ($values.relay.enabled | ternary "objects" "hooks") }}
{{- $derived := dict "SPANHOOK_LISTEN" "0.0.0.0:3000" "SPANHOOK_ROLE" ($values.serve.forwarders | empty | ternary "all" "receive") "KUBERNETES_CLUSTER" $values.cluster "LIGHTHOUSE_SOURCES" $sources }}
{{- if not $values.serve.config.QUEUE_URL }}
{{- $_ := set $derived "SPANHOOK_DATA" "/data" }}
{{- end }}
{{- if $values.collector.enabled }}
{{- $_ := set $derived "OTEL_EXPORTER_OTLP_ENDPOINT" (printf "http://%s:4318" (include "spanhook.name" (list . "collector"))) }}
{{- end }}
{{- mergeOverwrite $derived (deepCopy $values.serve.config) | toJson }}
{{- end }}

{{/* Refuses values that leave nobody to forward, or two owners of one queue: (list $ config). */}}
{{- define "spanhook.serve.fits" -}}
{{- $values := (index . 0).Values.serve }}{{ $config := index . 1 }}
{{- if not $config.QUEUE_URL }}
{{- if or (gt (int $values.replicas) 1) $values.forwarders }}
{{- fail "the queue on a volume has one owner; set serve.config.QUEUE_URL and serve.config.DEAD_LETTER_QUEUE_URL to SQS queues that the Pods share, or serve.replicas=1 and serve.forwarders=0" }}
{{- end }}
{{- else if not (or $config.DEAD_LETTER_QUEUE_URL $config.SETTINGS) }}
{{- fail "QUEUE_URL is set and its dead letters have no queue; set serve.config.DEAD_LETTER_QUEUE_URL" }}
{{- else if not (or $config.OTEL_EXPORTER_OTLP_ENDPOINT $config.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT $config.CIRCLECI_OTLP_ENDPOINT $config.SETTINGS) }}
{{- fail "with QUEUE_URL there is no page of traces, and spans have nowhere to go; set serve.config.OTEL_EXPORTER_OTLP_ENDPOINT, or collector.enabled=true" }}
{{- end }}
{{- end }}

{{/* The plain settings of the relay. */}}
{{- define "spanhook.relay.config" -}}
{{- $values := .Values }}
{{- $derived := dict "RELAY_LISTEN" "0.0.0.0:8080" "KUBERNETES_CLUSTER" $values.cluster "KUBERNETES_SIGNING_KEY_FILE" "/etc/spanhook-relay/signing-key" }}
{{- if $values.serve.enabled }}
{{- $_ := set $derived "SPANHOOK_ENDPOINT" (printf "http://%s:3000" (include "spanhook.name" (list . "serve"))) }}
{{- end }}
{{- if $values.relay.deliveries }}
{{- $_ := set $derived "RELAY_DELIVERIES" "0.0.0.0:8081" }}
{{- end }}
{{- with $values.relay.namespaces }}
{{- $_ := set $derived "KUBERNETES_NAMESPACES" (join "," .) }}
{{- end }}
{{- mergeOverwrite $derived (deepCopy $values.relay.config) | toJson }}
{{- end }}

{{/* Refuses names that a component doesn't know, with what to write instead: (list $ component). */}}
{{- define "spanhook.known" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}
{{- $known := index ($root.Files.Get "settings.yaml" | fromYaml) $component }}
{{- $others := dict "config" "secrets" "secrets" "config" }}
{{- range $place, $other := $others }}
{{- range $name, $_ := index $root.Values $component $place }}
{{- $at := printf "%s.%s.%s" $component $place $name }}
{{- if hasKey $known.chart $name }}
{{- fail (printf "%s can't be set here; set %s" $at (index $known.chart $name)) }}
{{- else if has $name (index $known $other) }}
{{- fail (printf "%s is in the wrong place; set %s.%s.%s" $at $component $other $name) }}
{{- else if not (or (has $name (index $known $place)) (and (eq $component "serve") (eq $place "secrets") (hasPrefix "CIRCLECI_OTLP_" $name))) }}
{{- $all := index $known $place }}{{ $like := list }}
{{- range $all }}{{ if hasPrefix (regexFind "^[^_]*" $name) . }}{{ $like = append $like . }}{{ end }}{{ end }}
{{- fail (printf "%s is no setting; use %s" $at (join ", " ($like | default $all))) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether the key that signs is the chart's: given as a text, or made and kept. */}}
{{- define "spanhook.signingKey.own" -}}
{{- $key := .Values.signingKey }}
{{- if and (not (kindIs "map" $key)) (or $key .Values.relay.enabled) }}true{{ end }}
{{- end }}

{{/* Where the key that signs is. */}}
{{- define "spanhook.signingKey" -}}
{{- include "spanhook.secretKey" (list .Values.signingKey (printf "%s-signing-key" (include "spanhook.name" (list . "serve"))) "KUBERNETES_SIGNING_KEY") }}
{{- end }}

{{/* The key itself, where it is the chart's. Only a real installation can keep one that it made: without a cluster
     (helm template, GitOps) nothing can be looked up, not even that there are no Secrets, and each rendering would
     make another. */}}
{{- define "spanhook.signingKey.value" -}}
{{- $name := printf "%s-signing-key" (include "spanhook.name" (list . "serve")) }}
{{- if .Values.signingKey }}{{ .Values.signingKey }}
{{- else if not .Values.serve.enabled }}
{{- fail "signingKey is empty; set it to the KUBERNETES_SIGNING_KEY of the spanhook that the relay sends to, or to {secret: NAME, key: KEY}" }}
{{- else if not (lookup "v1" "Secret" .Release.Namespace "") }}
{{- fail "signingKey is empty, and no cluster is there to keep one in (helm template, GitOps); set it to the output of: echo whsec_$(openssl rand -base64 32), or to {secret: NAME, key: KEY}" }}
{{- else }}
{{- with lookup "v1" "Secret" .Release.Namespace $name }}{{ index .data "KUBERNETES_SIGNING_KEY" | b64dec }}
{{- else }}{{ printf "whsec_%s" (randBytes 32) }}{{ end }}
{{- end }}
{{- end }}
