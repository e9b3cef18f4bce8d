{{- define "mindsight.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "mindsight.selector" -}}
app.kubernetes.io/name: mindsight
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "mindsight.labels" -}}
{{ include "mindsight.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{- define "mindsight.claim" -}}
{{- .Values.data.existingClaim | default (printf "%s-data" (include "mindsight.name" .)) -}}
{{- end -}}

{{/* A pod of one process. root, part, image, module, env (name -> value), resources, extra (yaml of the pod), probes (yaml of the container) */}}
{{- define "mindsight.pod" -}}
metadata:
  labels: {{- include "mindsight.labels" . | nindent 4 }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30 # a worker saves its sessions' state and gives its leases back
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with .extra }}
  {{- . | nindent 2 }}
  {{- end }}
  containers:
    - name: {{ .part }}
      image: "{{ .root.Values.image.registry }}/{{ .image }}:{{ .root.Values.image.tag }}"
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [python, -P, -m, {{ .module }}]
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      env:
        {{- range $name, $value := .env }}
        - {name: {{ $name }}, value: {{ $value | quote }}}
        {{- end }}
        - {name: MINDSIGHT_DATA_DIR, value: /data}
        {{- with .root.Values.blobs }}
        {{- if .url }}
        - {name: MINDSIGHT_BLOBS_URL, value: {{ .url | quote }}}
        {{- with .endpoint }}
        - {name: AWS_ENDPOINT_URL_S3, value: {{ . | quote }}}
        {{- end }}
        {{- with .region }}
        - {name: AWS_REGION, value: {{ . | quote }}}
        {{- end }}
        {{- if .secret }}
        - {name: AWS_SHARED_CREDENTIALS_FILE, value: /run/bucket/credentials}
        {{- end }}
        {{- end }}
        {{- end }}
      {{- with .probes }}
      {{- . | nindent 6 }}
      {{- end }}
      resources: {{- toYaml .resources | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
        - {name: secrets, mountPath: /run/secrets, readOnly: true}
        {{- if and .root.Values.blobs.url .root.Values.blobs.secret }}
        - {name: bucket, mountPath: /run/bucket, readOnly: true}
        {{- end }}
  volumes:
    - name: data
      persistentVolumeClaim: {claimName: {{ include "mindsight.claim" .root }}}
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    - name: secrets
      secret:
        secretName: {{ .root.Values.redis.secret }}
        defaultMode: 0440
        items: [{key: url, path: mindsight_redis_url}]
    {{- if and .root.Values.blobs.url .root.Values.blobs.secret }}
    - name: bucket
      secret:
        secretName: {{ .root.Values.blobs.secret }}
        defaultMode: 0440
        items: [{key: credentials, path: credentials}]
    {{- end }}
{{- end -}}
