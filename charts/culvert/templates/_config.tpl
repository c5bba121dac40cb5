{{/* culvertd.toml: what the chart sets, with extraConfig over it. */}}

{{- define "culvert.config" -}}
{{- $config := dict
  "state_dir" "/var/lib/culvert"
  "ike" (dict "port" (include "culvert.ikePort" . | int) "natt_port" (include "culvert.nattPort" . | int))
  "router" (dict "raw_esp" false)
  "grpc" (dict "socket" "/run/culvert/culvertd.sock")
  "metrics" (dict
    "listen" (include "culvert.listen" (dict "root" . "port" .Values.metrics.port))
    "max_peers" (int .Values.metrics.maxPeers)
    "max_tenants" (int .Values.metrics.maxTenants))
  "log" (dict "level" .Values.log.level "format" .Values.log.format)
  "shutdown" (dict "drain" (printf "%ds" (int .Values.shutdown.drainSeconds)))
-}}
{{- if .Values.grpc.tls.existingSecret }}
{{- $tls := dict "cert" "/etc/culvert/tls/tls.crt" "key" "/etc/culvert/tls/tls.key" }}
{{- if .Values.grpc.tls.clientCA }}
{{- $_ := set $tls "client_ca" "/etc/culvert/tls/ca.crt" }}
{{- end }}
{{- $_ := set $config.grpc "tls" $tls }}
{{- $_ := set $config.grpc "listen" (include "culvert.listen" (dict "root" . "port" .Values.grpc.port)) }}
{{- end }}
{{- with .Values.grpc.clients }}
{{- $_ := set $config.grpc "clients" . }}
{{- end }}
{{- if .Values.grpc.tokens }}
{{- $tokens := list }}
{{- range .Values.grpc.tokens }}
{{- $file := printf "/etc/culvert/tokens/%s/%s" .existingSecret (default "token" .key) }}
{{- $tokens = append $tokens (merge (dict "file" $file) (omit . "existingSecret" "key")) }}
{{- end }}
{{- $_ := set $config.grpc "tokens" $tokens }}
{{- end }}
{{- with .Values.router.shards }}
{{- $_ := set $config.router "shards" (int .) }}
{{- end }}
{{- if .Values.otlp.endpoint }}
{{- $otlp := dict "endpoint" .Values.otlp.endpoint "sample_ratio" .Values.otlp.sampleRatio "logs" .Values.otlp.logs }}
{{- if .Values.otlp.tls.existingSecret }}
{{- $_ := set $otlp "ca" "/etc/culvert/otlp-tls/ca.crt" }}
{{- if .Values.otlp.tls.clientCert }}
{{- $_ := set $otlp "cert" "/etc/culvert/otlp-tls/tls.crt" }}
{{- $_ := set $otlp "key" "/etc/culvert/otlp-tls/tls.key" }}
{{- end }}
{{- end }}
{{- if .Values.otlp.headers.existingSecret }}
{{- $_ := set $otlp "headers_file" (printf "/etc/culvert/otlp/%s" .Values.otlp.headers.key) }}
{{- end }}
{{- $_ := set $config "otlp" $otlp }}
{{- end }}
{{- if .Values.vault.existingSecret }}
{{- $_ := set $config "vault" (dict "key_file" (printf "/etc/culvert/vault/%s" .Values.vault.key)) }}
{{- end }}
{{- if .Values.cluster.etcd }}
{{- $cluster := dict "etcd" .Values.cluster.etcd "prefix" .Values.cluster.prefix }}
{{- $_ := set $cluster "listen" (include "culvert.listen" (dict "root" . "port" 4510)) }}
{{- if .Values.cluster.tls.existingSecret }}
{{- $_ := set $cluster "ca" "/etc/culvert/etcd/ca.crt" }}
{{- if .Values.cluster.tls.clientCert }}
{{- $_ := set $cluster "cert" "/etc/culvert/etcd/tls.crt" }}
{{- $_ := set $cluster "key" "/etc/culvert/etcd/tls.key" }}
{{- end }}
{{- end }}
{{- if .Values.cluster.nodes.existingSecret }}
{{- $_ := set $cluster "mesh_ca" "/etc/culvert/nodes/ca.crt" }}
{{- $_ := set $cluster "mesh_cert" "/etc/culvert/nodes/tls.crt" }}
{{- $_ := set $cluster "mesh_key" "/etc/culvert/nodes/tls.key" }}
{{- end }}
{{- $_ := set $config "cluster" $cluster }}
{{- end }}
{{- if .Values.bootstrap.objects }}
{{- $_ := set $config "bootstrap" (dict "file" "/etc/culvert/bootstrap/manifest.yaml") }}
{{- end }}
{{- include "culvert.toml" (mergeOverwrite $config (deepCopy .Values.extraConfig)) | trim }}
{{ end -}}
