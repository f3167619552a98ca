{{/* Short enough for a StatefulSet's pods and revisions to have names, too. */}}
{{- define "mobu-fleet.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mobu-fleet.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mobu-fleet.labels" -}}
{{ include "mobu-fleet.selector" . }}
app.kubernetes.io/version: {{ include "mobu-fleet.tag" . | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: mobu-fleet
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "mobu-fleet.tag" -}}
{{- default .Chart.AppVersion .Values.image.tag -}}
{{- end -}}

{{- define "mobu-fleet.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mobu-fleet.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The Secrets that others make for us have names that follow from ours. */}}
{{- define "mobu-fleet.gafaelfawrSecret" -}}
{{- if .Values.gafaelfawrToken.existingSecret -}}
{{- .Values.gafaelfawrToken.existingSecret -}}
{{- else if .Values.gafaelfawr.enabled -}}
{{- include "mobu-fleet.fullname" . }}-gafaelfawr-token
{{- end -}}
{{- end -}}

{{- define "mobu-fleet.tokens" -}}
{{- .Values.config.tokens | default (ternary "gafaelfawr" "local" (not (empty (include "mobu-fleet.gafaelfawrSecret" .)))) -}}
{{- end -}}

{{- define "mobu-fleet.secret" -}}
{{- if .Values.secrets.existingSecret -}}
{{- .Values.secrets.existingSecret -}}
{{- else if .Values.vaultSecret.enabled -}}
{{- include "mobu-fleet.fullname" . -}}
{{- end -}}
{{- end -}}

{{- define "mobu-fleet.kafkaSecret" -}}
{{- if .Values.kafka.existingSecret -}}
{{- .Values.kafka.existingSecret -}}
{{- else if .Values.kafkaAccess.enabled -}}
{{- include "mobu-fleet.fullname" . }}-kafka
{{- end -}}
{{- end -}}

{{- define "mobu-fleet.sendsMetrics" -}}
{{- if (.Values.config.metrics | default dict).enabled -}}yes{{- end -}}
{{- end -}}

{{/*
The configuration file, without keys that have no value (a null means "not set") and without those of .omit. So a change of
what only the coordinator looks at does not restart a single monkey.
*/}}
{{- define "mobu-fleet.config" -}}
{{- $file := dict "tokens" .tokens -}}
{{- range $key, $value := .config -}}
{{- if not (or (kindIs "invalid" $value) (has $key $.omit)) -}}
{{- $_ := set $file $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $file -}}
{{- end -}}

{{- define "mobu-fleet.coordinatorConfig" -}}
{{- include "mobu-fleet.config" (dict "config" .Values.config "tokens" (include "mobu-fleet.tokens" .) "omit" list) -}}
{{- end -}}

{{- define "mobu-fleet.workerConfig" -}}
{{- $omit := list "autostart" "auth" "applyTimeout" "gatherTimeout" "announceInterval" "pathPrefix" "githubCiApp" "githubRefreshApp" -}}
{{- include "mobu-fleet.config" (dict "config" .Values.config "tokens" (include "mobu-fleet.tokens" .) "omit" $omit) -}}
{{- end -}}

{{/*
What replicas must be restarted for when the count changes: whether there is one or many, because the names of users depend
on that; the count itself if that is asked for. Flocks that are spread across replicas learn it from the desired state.
*/}}
{{- define "mobu-fleet.size" -}}
{{- if .Values.restartOnScale -}}
{{- .Values.replicaCount -}}
{{- else -}}
{{- ternary "many" "one" (gt (int .Values.replicaCount) 1) -}}
{{- end -}}
{{- end -}}

{{/* Seconds of a duration as the configuration has it: a number, or units from weeks to seconds, each at most once. */}}
{{- define "mobu-fleet.seconds" -}}
{{- $text := . | toString | trim -}}
{{- if regexMatch "^[0-9]*[.]?[0-9]+([eE][+]?[0-9]+)?$" $text -}}
{{- ceil (float64 $text) | int64 -}}
{{- else -}}
{{- $units := "^(?:([0-9]+)\\s*(?:weeks|week|w))?\\s*(?:([0-9]+)\\s*(?:days|day|d))?\\s*(?:([0-9]+)\\s*(?:hours|hour|hr|h))?\\s*(?:([0-9]+)\\s*(?:minutes|minute|mins|min|m))?\\s*(?:([0-9]+)\\s*(?:seconds|second|secs|sec|s))?$" -}}
{{- if or (not $text) (not (regexMatch $units $text)) -}}
{{- fail (printf "config.drainTimeout: %q is no duration; write 30s, 1m30s or a number of seconds" $text) -}}
{{- end -}}
{{- $total := 0 -}}
{{- range $index, $seconds := list 604800 86400 3600 60 1 -}}
{{- $digits := regexReplaceAll $units $text (printf "${%d}" (add1 $index)) -}}
{{- if $digits -}}{{- $total = add $total (mul (int64 $digits) $seconds) -}}{{- end -}}
{{- end -}}
{{- $total -}}
{{- end -}}
{{- end -}}

{{/*
Annotations of ingresses. A standby refuses changes with 503; ingress-nginx shall then ask the other coordinator, and is not told
to by default.
*/}}
{{- define "mobu-fleet.ingressAnnotations" -}}
{{- $annotations := deepCopy .Values.ingress.annotations -}}
{{- if gt (int .Values.coordinator.replicas) 1 -}}
{{- $annotations = merge $annotations (dict "nginx.ingress.kubernetes.io/proxy-next-upstream" "error http_503 non_idempotent") -}}
{{- end -}}
{{- if $annotations -}}{{- toYaml $annotations -}}{{- end -}}
{{- end -}}

{{/* A process may take drainTimeout to end; the rest is for closing connections. */}}
{{- define "mobu-fleet.gracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (include "mobu-fleet.seconds" (.Values.config.drainTimeout | default "30s")) 15 -}}
{{- else -}}
{{- .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* All mistakes that the schema cannot see; the first one found is said. */}}
{{- define "mobu-fleet.validate" -}}
{{- $v := .Values -}}
{{- if not (or $v.amqp.existingSecret $v.rabbitmqCluster.enabled) -}}
{{- fail "amqp.existingSecret: name the Secret with the broker's URLs, or set rabbitmqCluster.enabled" -}}
{{- end -}}
{{- if eq (include "mobu-fleet.tokens" .) "gafaelfawr" -}}
{{- if not (include "mobu-fleet.gafaelfawrSecret" .) -}}
{{- fail "gafaelfawrToken.existingSecret: config.tokens is gafaelfawr, which needs a token (or gafaelfawr.enabled, or config.tokens: local)" -}}
{{- end -}}
{{- if not (or $v.global.repertoireUrl $v.config.discovery $v.config.repertoireBaseUrl) -}}
{{- fail "global.repertoireUrl: config.tokens is gafaelfawr, which is found by service discovery (or list it in config.discovery)" -}}
{{- end -}}
{{- end -}}
{{- if and (eq ($v.config.auth | default "header") "token") (not $v.authTokens.existingSecret) -}}
{{- fail "authTokens.existingSecret: config.auth is token, which needs the tokens" -}}
{{- end -}}
{{- if and (or $v.config.slackAlerts $v.config.githubCiApp $v.config.githubRefreshApp) (not (include "mobu-fleet.secret" .)) -}}
{{- fail "secrets.existingSecret: config.slackAlerts, githubCiApp and githubRefreshApp need their secrets (or vaultSecret.enabled)" -}}
{{- end -}}
{{- if and $v.vaultSecret.enabled (not $v.global.vaultSecretsPath) -}}
{{- fail "global.vaultSecretsPath: vaultSecret.enabled needs it" -}}
{{- end -}}
{{- if and (include "mobu-fleet.sendsMetrics" .) (not (include "mobu-fleet.kafkaSecret" .)) -}}
{{- fail "kafka.existingSecret: config.metrics.enabled needs a way to Kafka (or kafkaAccess.enabled)" -}}
{{- end -}}
{{- if and $v.ingress.enabled $v.gafaelfawr.enabled -}}
{{- fail "ingress.enabled: gafaelfawr.enabled brings ingresses of its own" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- fail "ingress.hosts: an ingress without a host would answer for every host" -}}
{{- end -}}
{{- if and $v.ingress.enabled $v.networkPolicy.enabled (not $v.networkPolicy.ingressFrom) -}}
{{- fail "networkPolicy.ingressFrom: name the ingress controller's pods, for nobody else may call the coordinator (or set networkPolicy.enabled: false)" -}}
{{- end -}}
{{- end -}}

{{/* What both kinds of pods have in common. */}}
{{- define "mobu-fleet.podSpec" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
serviceAccountName: {{ include "mobu-fleet.serviceAccount" . }}
automountServiceAccountToken: false
# The names of Services would appear as variables that look like ours.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "mobu-fleet.gracePeriod" . }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "mobu-fleet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "mobu-fleet.env" -}}
- name: MOBU_FLEET
  value: {{ .root.Values.fleet | quote }}
{{- if .root.Values.amqp.existingSecret }}
- name: MOBU_AMQP_URL
  valueFrom:
    secretKeyRef:
      name: {{ .root.Values.amqp.existingSecret }}
      key: {{ .urlKey }}
{{- else }}
- name: BROKER_USER
  valueFrom:
    secretKeyRef:
      name: {{ include "mobu-fleet.fullname" .root }}-rabbitmq-default-user
      key: username
- name: BROKER_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "mobu-fleet.fullname" .root }}-rabbitmq-default-user
      key: password
- name: MOBU_AMQP_URL
  value: amqp://$(BROKER_USER):$(BROKER_PASSWORD)@{{ include "mobu-fleet.fullname" .root }}-rabbitmq.{{ .root.Release.Namespace }}.svc:{{ .root.Values.amqp.port }}/
{{- end }}
{{- if .root.Values.amqp.caSecret }}
- name: MOBU_AMQP_CA_FILE
  value: /etc/mobu-amqp/ca.crt
{{- end }}
{{- if .root.Values.amqp.clientCertSecret }}
- name: MOBU_AMQP_CERT_FILE
  value: /etc/mobu-amqp-client/tls.crt
- name: MOBU_AMQP_KEY_FILE
  value: /etc/mobu-amqp-client/tls.key
{{- end }}
{{- with .root.Values.global.repertoireUrl }}
- name: REPERTOIRE_BASE_URL
  value: {{ . | quote }}
{{- end }}
{{- if and .root.Values.global.environmentName (kindIs "invalid" .root.Values.config.sentryEnvironment) }}
- name: MOBU_SENTRY_ENVIRONMENT
  value: {{ .root.Values.global.environmentName | quote }}
{{- end }}
- name: SENTRY_RELEASE
  value: {{ include "mobu-fleet.tag" .root | quote }}
{{- if include "mobu-fleet.secret" .root }}
- name: MOBU_SENTRY_DSN
  valueFrom:
    secretKeyRef:
      name: {{ include "mobu-fleet.secret" .root }}
      key: sentry-dsn
      optional: true
{{- if .root.Values.config.slackAlerts }}
- name: MOBU_ALERT_HOOK
  valueFrom:
    secretKeyRef:
      name: {{ include "mobu-fleet.secret" .root }}
      key: ALERT_HOOK
{{- end }}
{{- end }}
{{- if include "mobu-fleet.sendsMetrics" .root }}
- name: KAFKA_BOOTSTRAP_SERVERS
  valueFrom:
    secretKeyRef:
      name: {{ include "mobu-fleet.kafkaSecret" .root }}
      key: bootstrapServers
- name: KAFKA_SECURITY_PROTOCOL
  valueFrom:
    secretKeyRef:
      name: {{ include "mobu-fleet.kafkaSecret" .root }}
      key: securityProtocol
- name: KAFKA_CLIENT_CERT_PATH
  value: /etc/mobu-kafka/user.crt
- name: KAFKA_CLIENT_KEY_PATH
  value: /etc/mobu-kafka/user.key
- name: KAFKA_CLUSTER_CA_PATH
  value: /etc/mobu-kafka/ca.crt
{{- end }}
{{- end -}}

{{- define "mobu-fleet.volumeMounts" -}}
- name: config
  mountPath: /etc/mobu
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- if .Values.amqp.caSecret }}
- name: amqp-ca
  mountPath: /etc/mobu-amqp
  readOnly: true
{{- end }}
{{- if .Values.amqp.clientCertSecret }}
- name: amqp-client
  mountPath: /etc/mobu-amqp-client
  readOnly: true
{{- end }}
{{- if include "mobu-fleet.sendsMetrics" . }}
- name: kafka
  mountPath: /etc/mobu-kafka
  readOnly: true
{{- end }}
{{- end -}}

{{- define "mobu-fleet.secretVolumes" -}}
{{- if .Values.amqp.caSecret }}
- name: amqp-ca
  secret:
    secretName: {{ .Values.amqp.caSecret }}
    items:
      - key: {{ .Values.amqp.caKey }}
        path: ca.crt
{{- end }}
{{- if .Values.amqp.clientCertSecret }}
- name: amqp-client
  secret:
    secretName: {{ .Values.amqp.clientCertSecret }}
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
{{- end }}
{{- if include "mobu-fleet.sendsMetrics" . }}
- name: kafka
  secret:
    secretName: {{ include "mobu-fleet.kafkaSecret" . }}
    items:
      - {key: ssl.keystore.crt, path: user.crt}
      - {key: ssl.keystore.key, path: user.key}
      - {key: ssl.truststore.crt, path: ca.crt}
{{- end }}
{{- end -}}

{{- define "mobu-fleet.spread" -}}
{{- if kindIs "invalid" .given -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "mobu-fleet.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
{{- else -}}
{{- toYaml .given -}}
{{- end -}}
{{- end -}}
