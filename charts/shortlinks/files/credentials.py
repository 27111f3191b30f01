"""Generate the missing credentials in a Secret; never change an existing key.

Standard library only; runs in the writer's image, with a token that may create Secrets and read
and patch this one.
"""

import base64
import json
import os
import secrets
import ssl
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = "https://{KUBERNETES_SERVICE_HOST}:{KUBERNETES_SERVICE_PORT}".format(**os.environ)
SECRETS = f"/api/v1/namespaces/{os.environ['NAMESPACE']}/secrets"
NAME = os.environ["SECRET"]


def call(method, path, body=None, kind="application/json"):
    request = urllib.request.Request(
        SERVER + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
            "Content-Type": kind,
        },
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return json.load(answer)


def fresh(keys):
    return {key: base64.b64encode(secrets.token_hex(24).encode()).decode() for key in keys}


def main():
    keys = os.environ["KEYS"].split()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": NAME,
            "labels": {
                "app.kubernetes.io/name": "shortlinks",
                "app.kubernetes.io/instance": os.environ["INSTANCE"],
                "app.kubernetes.io/component": "credentials",
            },
        },
        "data": fresh(keys),
    }
    try:
        call("POST", SECRETS, secret)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise SystemExit(f"{error}: {error.read().decode()}") from error
    else:
        print(f"created {NAME}: {', '.join(keys)}")
        return
    there = call("GET", f"{SECRETS}/{NAME}")
    missing = [key for key in keys if key not in there.get("data", {})]
    if missing:
        # With the version, two Jobs that add the same key at once get a conflict instead of overwriting.
        version = there["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "data": fresh(missing)}
        call("PATCH", f"{SECRETS}/{NAME}", patch, "application/merge-patch+json")
    print(f"{NAME} exists; added: {', '.join(missing) or 'nothing'}")


main()
