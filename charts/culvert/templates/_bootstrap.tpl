{{/* The manifest of bootstrap.objects: values of secrets come from files that Secrets are mounted as. */}}

{{- define "culvert.bootstrapManifest" -}}
{{- range .Values.bootstrap.objects }}
---
{{- $object := deepCopy . }}
{{- with $object.valueFromSecret }}
{{- $_ := set $object "valueFromFile" (include "culvert.bootstrapPath" . | printf "/etc/culvert/psk/%s") }}
{{- end }}
{{- $_ := unset $object "valueFromSecret" }}
{{ toYaml $object }}
{{- end }}
{{- end -}}

{{- define "culvert.bootstrapPath" -}}
{{- printf "%s/%s" .name (default "psk" .key) -}}
{{- end -}}

{{/* Sources of a projected volume with each key of each Secret once; empty if there are none. */}}
{{- define "culvert.bootstrapSources" -}}
{{- $seen := dict }}
{{- range .Values.bootstrap.objects }}
{{- with .valueFromSecret }}
{{- $path := include "culvert.bootstrapPath" . }}
{{- if not (hasKey $seen $path) }}
{{- $_ := set $seen $path true }}
- secret:
    name: {{ .name }}
    items:
      - key: {{ default "psk" .key }}
        path: {{ $path }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
