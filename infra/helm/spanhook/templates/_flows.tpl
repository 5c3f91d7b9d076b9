{{/* Who may talk to whom, once for both kinds of policy: by component, `in` and `out`, each a list of peers with
     their ports, and requests where Cilium judges those. A peer is {component}, {namespace, podLabels}, {cidr}, {host} or
     {entity}. */}}
{{- define "spanhook.flows" -}}
{{- $net := .Values.networkPolicy }}{{ $serve := .Values.serve.enabled }}{{ $collector := .Values.collector.enabled }}{{ $relay := .Values.relay.enabled }}
{{- $apart := and $serve .Values.serve.forwarders }}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (not (or $net.ingress $net.ciliumIngress)) }}
{{- fail "the network policies let nobody in; set networkPolicy.ingress to the namespaces of the ingress controller, such as [ingress-nginx]" }}
{{- end }}
{{- if and $relay .Values.relay.deliveries (not $net.deliveries) }}
{{- fail "nobody can reach the relay's deliveries; set networkPolicy.deliveries to the namespaces of Tekton and Lighthouse, such as [tekton-pipelines, jx]" }}
{{- end }}
{{- if $serve }}
serve:
  in:
    {{- include "spanhook.from" (list $net.ingress "[3000]" (include "spanhook.paths" . | fromYamlArray)) | nindent 4 }}
    {{- if $net.ciliumIngress }}
    - {peers: [{entity: ingress}], ports: [3000], http: {{ include "spanhook.paths" . | fromYamlArray | toJson }}}
    {{- end }}
    {{- include "spanhook.from" (list $net.jobs "[3000]" (include "spanhook.jobPaths" . | fromYamlArray)) | nindent 4 }}
    {{- if $relay }}
    - peers: [{component: relay}]
      ports: [3000]
      http:
        - {path: /kubernetes, method: POST, type: Exact}
        {{- if .Values.relay.deliveries }}
        - {path: /tekton, method: POST, type: Exact}
        - {path: /lighthouse, method: POST, type: Exact}
        {{- end }}
    {{- end }}
  out:
    {{- if and $collector (not $apart) }}
    - {peers: [{component: collector}], ports: [4318]}
    {{- end }}
    {{- include "spanhook.to" (list . "serve") | nindent 4 }}
{{- end }}
{{- if $apart }}
forward:
  out:
    {{- if $collector }}
    - {peers: [{component: collector}], ports: [4318]}
    {{- end }}
    {{- include "spanhook.to" (list . "forward") | nindent 4 }}
{{- end }}
{{- if $collector }}
collector:
  in:
    {{- $signals := list (dict "path" "/v1/traces" "method" "POST" "type" "Exact") (dict "path" "/v1/metrics" "method" "POST" "type" "Exact") (dict "path" "/v1/logs" "method" "POST" "type" "Exact") }}
    {{- if $serve }}
    - {peers: [{component: {{ $apart | empty | ternary "serve" "forward" }}}], ports: [4318], http: {{ $signals | toJson }}}
    {{- end }}
    {{- if $net.jobSpans }}
    {{- include "spanhook.from" (list $net.jobs "[4318]" $signals) | nindent 4 }}
    {{- end }}
  out:
    {{- include "spanhook.to" (list . "collector") | nindent 4 }}
{{- end }}
{{- if $relay }}
relay:
  in:
    {{- if .Values.relay.deliveries }}
    {{- $paths := list (dict "path" "/tekton" "method" "POST" "type" "Exact") (dict "path" "/lighthouse" "method" "POST" "type" "Exact") (dict "path" "/lighthouse/events" "method" "POST" "type" "Exact") }}
    {{- include "spanhook.from" (list $net.deliveries "[8081]" $paths) | nindent 4 }}
    {{- end }}
    {{- include "spanhook.from" (list $net.scrapers "[8080]" (list (dict "path" "/metrics" "method" "GET" "type" "Exact"))) | nindent 4 }}
  out:
    {{- if $serve }}
    - {peers: [{component: serve}], ports: [3000]}
    {{- end }}
    {{- if eq $net.kind "cilium" }}
    - {peers: [{entity: kube-apiserver}], ports: {{ $net.apiServer.ports | toJson }}}
    {{- else }}
    - peers:
        {{- range $net.apiServer.cidrs }}
        - {cidr: {{ . | quote }}}
        {{- end }}
      ports: {{ $net.apiServer.ports | toJson }}
    {{- end }}
    {{- include "spanhook.to" (list . "relay") | nindent 4 }}
{{- end }}
{{- end }}

{{/* From namespaces: (list namespaces ports requests). */}}
{{- define "spanhook.from" -}}
{{- $ports := index . 1 }}{{ $http := index . 2 }}
{{- range index . 0 }}
- {peers: [{namespace: {{ . | quote }}}], ports: {{ $ports }}, http: {{ $http | toJson }}}
{{- end }}
{{- end }}

{{/* What a component reaches outside of the release: networkPolicy.to, and the hosts of configured addresses. Silence
     would be a Pod that is cut off from what it was told to use, so that is refused: (list $ component). */}}
{{- define "spanhook.to" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $net := $root.Values.networkPolicy }}
{{- $owner := include "spanhook.valuesOf" $component }}{{ $given := index $net.to $owner }}
{{- range $given }}
{{- if and (eq $net.kind "plain") .host (not .cidr) }}
{{- fail (printf "networkPolicy.to.%s has the host %s: plain policies know addresses only; set cidr beside it, or networkPolicy.kind=cilium" $component .host) }}
{{- end }}
- {peers: [{{ omit . "ports" | toJson }}], ports: {{ .ports | toJson }}}
{{- end }}
{{- range include "spanhook.addresses" . | fromJsonArray }}
{{- if regexMatch "^[0-9.]+$" .host }}
- {peers: [{cidr: {{ .host }}/32}], ports: [{{ .port }}]}
{{- else if or (eq $net.kind "plain") (regexMatch "^[^.]*$|\\.svc($|\\.)" .host) }}
{{- if not $given }}
{{- fail (printf "networkPolicy.to.%s is empty, so %s would not be reached; set it to its addresses, such as [{cidr: 203.0.113.0/24, ports: [%v]}], or to [{namespace: NAME, ports: [PORT]}] of Pods in the cluster" $owner .host .port) }}
{{- end }}
{{- else }}
- {peers: [{host: {{ .host | quote }}}], ports: [{{ .port }}]}
{{- end }}
{{- end }}
{{- end }}

{{/* Hosts and ports of the addresses that a component is configured with, as a JSON list: (list $ component). */}}
{{- define "spanhook.addresses" -}}
{{- $root := index . 0 }}{{ $component := index . 1 }}{{ $values := index $root.Values (include "spanhook.valuesOf" $component) }}
{{- $texts := list }}
{{- if has $component (list "serve" "forward") }}
{{- $receives := eq $component "serve" }}{{ $forwards := or (not $receives) (not $values.forwarders) }}
{{- range $name, $value := $values.config }}
{{- if and (hasSuffix "_ENDPOINT" $name) (or $forwards (eq $name "TELEMETRY_OTLP_ENDPOINT")) }}{{ $texts = append $texts (toString $value) }}{{ end }}
{{- if and $receives (hasSuffix "OIDC_ISSUERS" $name) }}
{{- $issuers := kindIs "string" $value | ternary $value (toJson $value) }}
{{- if hasPrefix "[" $issuers }}{{ $issuers = fromJsonArray $issuers }}{{ else }}{{ $issuers = splitList "," $issuers }}{{ end }}
{{- range $issuers }}
{{- if kindIs "string" . }}{{ $texts = append $texts . }}
{{- /* Whose keys are in the settings is not asked. */}}
{{- else if not .jwks }}{{ $texts = append $texts (.jwks_url | default .issuer) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- with $values.config }}
{{- if .AWS_ENDPOINT_URL_SQS }}{{ $texts = append $texts .AWS_ENDPOINT_URL_SQS }}
{{- else if .QUEUE_URL }}
{{- $texts = append $texts .QUEUE_URL }}
{{- /* Where a role of the Pods' service account is taken on. */}}
{{- if contains ".amazonaws.com" .QUEUE_URL }}{{ $texts = append $texts "https://sts.*.amazonaws.com" }}{{ end }}
{{- end }}
{{- end }}
{{- if or $root.Values.networkPolicy.aws (regexMatch "ssm:|arn:aws" (toJson (list $values.config $values.secrets))) }}
{{- range list "ssm" "secretsmanager" "sts" }}{{ $texts = append $texts (printf "https://%s.*.amazonaws.com" .) }}{{ end }}
{{- end }}
{{- else }}
{{- $texts = list (toJson (list $values.env $values.config)) }}
{{- end }}
{{- $own := list (include "spanhook.name" (list $root "collector")) (include "spanhook.name" (list $root "serve")) }}
{{- $addresses := list }}
{{- range $text := $texts }}
{{- range regexFindAll "[a-z]+://[\\w.*-]+(:[0-9]+)?" $text -1 }}
{{- $host := regexReplaceAll "^[a-z]+://|:[0-9]+$" . "" }}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" .) | default (hasPrefix "http:" . | ternary "80" "443") | int }}
{{- if not (has (splitList "." $host | first) $own) }}
{{- $addresses = append $addresses (dict "host" $host "port" $port) }}
{{- end }}
{{- end }}
{{- end }}
{{- $addresses | uniq | toJson }}
{{- end }}
