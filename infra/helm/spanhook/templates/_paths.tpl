{{/* The paths that are open to the outside, and how they are asked: of webhooks, of jobs, of `spanhook check`. Not the
     page at / and its /api, which show CI data to whoever reaches them, without a login. */}}
{{- define "spanhook.paths" -}}
{{- range list "/circleci" "/gitlab" "/github" "/kubernetes" "/tekton" "/lighthouse" "/lighthouse/events" }}
- {path: {{ . }}, method: POST, type: Exact}
{{- end }}
{{- /* TEKTON_PATH_SECRET is the rest of the path. */}}
- {path: /tekton, method: POST, type: Prefix}
{{ include "spanhook.jobPaths" . }}
- {path: /health, method: GET, type: Exact}
{{- end }}

{{- define "spanhook.jobPaths" -}}
{{- range list "/build-events" "/v1/traces" "/v1/metrics" "/v1/logs" }}
- {path: {{ . }}, method: POST, type: Exact}
{{- end }}
- {path: /traceparent, method: GET, type: Prefix}
{{- end }}
