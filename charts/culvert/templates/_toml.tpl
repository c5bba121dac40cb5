{{/* A dict of sections as TOML. Helm's own toToml makes floats of all numbers, which culvertd refuses as ports. */}}

{{- define "culvert.toml" -}}
{{- range $key, $value := . }}
{{- if not (kindIs "map" $value) }}
{{ include "culvert.tomlKey" $key }} = {{ include "culvert.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $section, $fields := . }}
{{- if kindIs "map" $fields }}
{{- include "culvert.tomlSection" (dict "name" $section "fields" $fields) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "culvert.tomlSection" }}
{{- $name := .name }}

[{{ $name }}]
{{- range $key, $value := .fields }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ include "culvert.tomlKey" $key }} = {{ include "culvert.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .fields }}
{{- if kindIs "map" $value }}
{{- include "culvert.tomlSection" (dict "name" (printf "%s.%s" $name (include "culvert.tomlKey" $key)) "fields" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "culvert.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{- define "culvert.tomlValue" -}}
{{- if kindIs "float64" . -}}
{{- if eq . (floor .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- else if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }},{{ end }} {{ include "culvert.tomlKey" $key }} = {{ include "culvert.tomlValue" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $i, $item := . }}{{ if $i }}, {{ end }}{{ include "culvert.tomlValue" $item }}{{ end }}]
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}
