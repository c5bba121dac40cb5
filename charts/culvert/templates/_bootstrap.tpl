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

{{/* The Secrets that values of pre-shared keys are in, as sources of a projected volume. */}}
{{- define "culvert.bootstrapSources" -}}
{{- $needed := list }}
{{- range .Values.bootstrap.objects }}
{{- with .valueFromSecret }}
{{- $needed = append $needed (dict "name" .name "key" (default "psk" .key)) }}
{{- end }}
{{- end }}
{{- include "culvert.secretSources" $needed }}
{{- end -}}

{{/* The same for tokens. */}}
{{- define "culvert.tokenSources" -}}
{{- $needed := list }}
{{- range .Values.grpc.tokens }}
{{- $needed = append $needed (dict "name" .existingSecret "key" (default "token" .key)) }}
{{- end }}
{{- include "culvert.secretSources" $needed }}
{{- end -}}

{{/* Each key of each Secret once, as SECRET/KEY; empty if there are none. */}}
{{- define "culvert.secretSources" -}}
{{- $seen := dict }}
{{- range . }}
{{- $path := printf "%s/%s" .name .key }}
{{- if not (hasKey $seen $path) }}
{{- $_ := set $seen $path true }}
- secret:
    name: {{ .name | quote }}
    items:
      - key: {{ .key | quote }}
        path: {{ $path | quote }}
{{- end }}
{{- end }}
{{- end -}}
