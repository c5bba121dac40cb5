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
  "grpc.tls" "grpc.tls.existingSecret has them"
  "metrics.listen" "listenAddress and metrics.port say where"
  "cluster.listen" "listenAddress says where"
  "cluster.etcd" "cluster.etcd says where, and with it goes what else a cluster needs"
  "cluster.prefix" "cluster.prefix says which"
  "cluster.node" "a pod is the node of its name"
  "shutdown.drain" "shutdown.drainSeconds says how long"
  "vault.key_file" "vault.existingSecret has it"
  "bootstrap.file" "bootstrap.objects has them"
-}}
{{- if .Values.grpc.tls.existingSecret -}}
{{- $_ := set $made "grpc.listen" "listenAddress and grpc.port say where" -}}
{{- end -}}
{{- if dig "router" "raw_esp" false (default dict .Values.extraConfig) -}}
{{- fail "at '/extraConfig/router/raw_esp': ESP without UDP has no port, so no Service brings it to the pod" -}}
{{- end -}}
{{- range $setting, $instead := $made -}}
{{- $parts := splitList "." $setting -}}
{{- if hasKey (default dict (get $.Values.extraConfig (first $parts))) (last $parts) -}}
{{- fail (printf "at '/extraConfig/%s': %s" (join "/" $parts) $instead) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot compare: two listeners of one port would let neither start. */}}
{{- define "culvert.differ" -}}
{{- $bound := list (list "/ike/port" (include "culvert.ikePort" .)) (list "/ike/nattPort" (include "culvert.nattPort" .)) -}}
{{- if .Values.cluster.etcd -}}
{{- $bound = prepend $bound (list "what the nodes say to each other" "4510") -}}
{{- end -}}
{{- include "culvert.ports" $bound -}}
{{- $bound = list (list "/metrics/port" (int .Values.metrics.port | toString)) -}}
{{- if .Values.grpc.tls.existingSecret -}}
{{- $bound = prepend $bound (list "/grpc/port" (int .Values.grpc.port | toString)) -}}
{{- end -}}
{{- include "culvert.ports" $bound -}}
{{- if not .Values.cluster.etcd -}}
{{- $live := lookup "v1" "ConfigMap" .Release.Namespace (include "culvert.fullname" .) -}}
{{- if regexMatch "(?m)^etcd = " (default "" (get (default dict $live.data) "culvertd.toml")) -}}
{{- fail "at '/cluster/etcd': is empty, and this release is a cluster: what its nodes share would be left where it is, and they would begin with what they were before. Give all values with every upgrade; helm rollback goes back from a first one that did not come up; or take the ConfigMap away if it is meant" -}}
{{- end -}}
{{- end -}}
{{- with .Values.ike.service.nodePort -}}
{{- if eq (int .) (int (default 0 $.Values.ike.service.nattNodePort)) -}}
{{- fail (printf "at '/ike/service/nattNodePort': %d is the port of ike.service.nodePort as well" (int .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Fails where two of these, each with its place and its port, have the same port. */}}
{{- define "culvert.ports" -}}
{{- $taken := dict -}}
{{- range . -}}
{{- if hasKey $taken (last .) -}}
{{- fail (printf "at '%s': %s is the port of %s as well" (first .) (last .) (get $taken (last .) | trimPrefix "/" | replace "/" ".")) -}}
{{- end -}}
{{- $_ := set $taken (last .) (first .) -}}
{{- end -}}
{{- end -}}

{{/* What Services to the outside have alike; `.` is their part of the values. */}}
{{- define "culvert.outward" -}}
type: {{ .type }}
{{- if ne .type "ClusterIP" }}
externalTrafficPolicy: {{ .externalTrafficPolicy }}
{{- end }}
{{- if eq .type "LoadBalancer" }}
{{- with .loadBalancerClass }}
loadBalancerClass: {{ . | quote }}
{{- end }}
{{- with .loadBalancerSourceRanges }}
loadBalancerSourceRanges:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- end -}}
