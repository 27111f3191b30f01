{{/* The parts that run as Deployments. Every file of this folder that makes objects for parts goes
through this list, so a new part is an entry here and a section of its name in values.yaml.

  image       the part whose image it runs
  args        the command of the image's entrypoint
  http        the public port; none for a part that nobody calls
  path        the path of an Ingress whose host names none
  admin       the port of probes
  metrics     whether the admin port has /metrics
  settings    whether it reads SHORTLINKS_* and the credentials; edge.yaml makes the pod that does not
  direct      talks to the primary itself, not through a pooler in transaction mode: LISTEN and
              session locks need a session
  streams     reads the click streams, so KEDA can scale it by their lag
  webhooks    sends webhooks to addresses outside the cluster
  waits       an init container waits for the schema. Writer, relay and worker can do nothing without
              it. The redirector has none: it must start while PostgreSQL is down and answer from
              Valkey, so a wait that blocks would break its first promise at the worst moment (a
              node dies during a database outage). It waits in its own process, unready, only
              while PostgreSQL answers that the schema is older than it needs.
*/}}
{{- define "shortlinks.registry" -}}
writer:
  image: writer
  args: [serve]
  http: 8000
  path: /api
  admin: 9000
  metrics: true
  settings: true
  waits: true
redirector:
  image: redirector
  args: [serve]
  http: 8001
  path: /
  admin: 9001
  metrics: true
  settings: true
relay:
  image: writer
  args: [relay]
  admin: 9002
  metrics: true
  settings: true
  direct: true
  waits: true
worker:
  image: writer
  args: [worker]
  admin: 9003
  metrics: true
  settings: true
  streams: true
  webhooks: true
  waits: true
edge:
  image: edge
  http: 8080
  path: /
  admin: 8081
{{- end }}
