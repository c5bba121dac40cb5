{{/* Names and labels that all components share. */}}

{{- define "culvert.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "culvert.fullname" -}}
{{- $name := include "culvert.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "culvert.selector" -}}
app.kubernetes.io/name: {{ include "culvert.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "culvert.labels" -}}
{{ include "culvert.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "culvert.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "culvert.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "culvert.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* Ports in the pod: an ordinary user gets none below 1024. */}}
{{- define "culvert.ikePort" -}}
{{- default (ternary 500 1500 (eq .Values.profile "tun")) .Values.ike.port | int -}}
{{- end -}}
{{- define "culvert.nattPort" -}}
{{- default (ternary 4500 14500 (eq .Values.profile "tun")) .Values.ike.nattPort | int -}}
{{- end -}}

{{/* The address of a listener in the pod, as culvertd takes it. */}}
{{- define "culvert.listen" -}}
{{- $address := .root.Values.listenAddress -}}
{{- if contains ":" $address }}[{{ $address }}]{{ else }}{{ $address }}{{ end }}:{{ int .port -}}
{{- end -}}

{{/* What extraConfig does not have: the Services, the probes, the containers and the time to end are made of the values. */}}
{{- define "culvert.made" -}}
{{- $made := dict
  "ike.port" "ike.port says which"
  "ike.natt_port" "ike.nattPort says which"
  "grpc.socket" "in the pod `culvert` looks for it where the chart puts it"
  "metrics.listen" "listenAddress and metrics.port say where"
  "cluster.listen" "listenAddress says where"
  "shutdown.drain" "shutdown.drainSeconds says how long"
-}}
{{- range $setting, $instead := $made -}}
{{- $parts := splitList "." $setting -}}
{{- if hasKey (default dict (get $.Values.extraConfig (first $parts))) (last $parts) -}}
{{- fail (printf "at '/extraConfig/%s': %s" (join "/" $parts) $instead) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot compare: two listeners of one port would let neither start. */}}
{{- define "culvert.differ" -}}
{{- $natt := include "culvert.nattPort" . -}}
{{- if eq (include "culvert.ikePort" .) $natt -}}
{{- fail (printf "at '/ike/nattPort': %s is the port of ike.port as well" $natt) -}}
{{- end -}}
{{- if and .Values.grpc.tls.existingSecret (eq (int .Values.grpc.port) (int .Values.metrics.port)) -}}
{{- fail (printf "at '/metrics/port': %d is the port of grpc.port as well" (int .Values.metrics.port)) -}}
{{- end -}}
{{- with .Values.ike.service.nodePort -}}
{{- if eq (int .) (int (default 0 $.Values.ike.service.nattNodePort)) -}}
{{- fail (printf "at '/ike/service/nattNodePort': %d is the port of ike.service.nodePort as well" (int .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
