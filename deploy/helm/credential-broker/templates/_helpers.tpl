{{- define "credential-broker.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "credential-broker.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "credential-broker.labels" -}}
{{ include "credential-broker.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "credential-broker.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "credential-broker.account" -}}
{{- .Values.serviceAccount.name | default (ternary (include "credential-broker.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "credential-broker.minted" -}}
{{- if eq (dig "web_identity" "mode" "" (.Values.config | default dict)) "minted" }}true{{ end }}
{{- end }}

{{- define "credential-broker.keys" -}}
{{- if and .Values.signingKeys.existingSecret .Values.signingKeys.pem }}{{ fail "signingKeys: existingSecret or pem, not both" }}{{ end }}
{{- if not (or .Values.signingKeys.existingSecret .Values.signingKeys.pem) }}{{ fail "signingKeys: mode minted needs a key: signingKeys.existingSecret, or signingKeys.pem" }}{{ end }}
{{- .Values.signingKeys.existingSecret | default (printf "%s-keys" (include "credential-broker.name" .)) }}
{{- end }}

{{/* The broker's configuration, whole. What the chart sets must not be set otherwise. */}}
{{- define "credential-broker.config" -}}
{{- if not .Values.config }}{{ fail "config: the broker's configuration is missing; begin with deploy/config.example.yaml" }}{{ end }}
{{- $config := deepCopy .Values.config }}
{{- range $key := list "listen" "admin_listen" }}
{{- if hasKey $config $key }}{{ fail (printf "config.%s: is set by the chart" $key) }}{{ end }}
{{- end }}
{{- $_ := set $config "listen" ":8080" }}
{{- $_ := set $config "admin_listen" ":9090" }}
{{- if include "credential-broker.minted" . }}
{{- if hasKey $config.web_identity "signing_keys" }}{{ fail "config.web_identity.signing_keys: is set by the chart, from signingKeys.files" }}{{ end }}
{{- $paths := list }}
{{- range .Values.signingKeys.files }}
{{- if and $.Values.signingKeys.pem (not (hasKey $.Values.signingKeys.pem .)) }}{{ fail (printf "signingKeys.files: %s is not in signingKeys.pem" .) }}{{ end }}
{{- $paths = append $paths (printf "/run/secrets/web-identity/%s" .) }}
{{- end }}
{{- $_ := set $config.web_identity "signing_keys" $paths }}
{{- end }}
{{- if .Values.sharedCache.existingSecret }}
{{- if hasKey (dig "shared_cache" dict $config) "url" }}{{ fail "config.shared_cache.url: is set by the chart, from sharedCache" }}{{ end }}
{{- $_ := set $config "shared_cache" (merge (dict "url" "${SHARED_CACHE_URL}" "key_file" "/run/secrets/shared-cache/key") (dig "shared_cache" dict $config)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}
