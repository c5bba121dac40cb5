{{/* culvertd.toml: what the chart sets, with extraConfig over it. */}}

{{- define "culvert.config" -}}
{{- $config := dict
  "state_dir" "/var/lib/culvert"
  "ike" (dict "port" (include "culvert.ikePort" . | int) "natt_port" (include "culvert.nattPort" . | int))
  "router" (dict "raw_esp" false)
  "grpc" (dict "listen" "127.0.0.1:50051")
  "metrics" (dict
    "listen" (include "culvert.listen" (dict "root" . "port" .Values.metrics.port))
    "max_peers" (int .Values.metrics.maxPeers)
    "max_tenants" (int .Values.metrics.maxTenants))
  "log" (dict "level" .Values.log.level "format" .Values.log.format)
  "shutdown" (dict "drain" (printf "%ds" (int .Values.shutdown.drainSeconds)))
-}}
{{- with .Values.router.shards }}
{{- $_ := set $config.router "shards" (int .) }}
{{- end }}
{{- if .Values.vault.existingSecret }}
{{- $_ := set $config "vault" (dict "key_file" (printf "/etc/culvert/vault/%s" .Values.vault.key)) }}
{{- end }}
{{- if .Values.bootstrap.objects }}
{{- $_ := set $config "bootstrap" (dict "file" "/etc/culvert/bootstrap/manifest.yaml") }}
{{- end }}
{{- include "culvert.toml" (mergeOverwrite $config (deepCopy .Values.extraConfig)) | trim }}
{{ end -}}
