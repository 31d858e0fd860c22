from __future__ import annotations

import pytest

from tests.fixtures.marked import found, marked

GOOD = """\
kind: Pod
metadata: {name: server, namespace: demo, labels: {meshkey.io/signer: enabled}}
spec:
  initContainers:
  - name: meshkey
    restartPolicy: Always
    startupProbe: {exec: {command: [health]}}
    env:
    - {name: MESHKEY_TOKEN_PIN_FILE, value: /var/lib/meshkey/mesh.pin}
    securityContext:
      runAsUser: 1338
      runAsGroup: 1337
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      privileged: false
      capabilities: {drop: [ALL]}
    volumeMounts:
    - {name: meshkey-store, mountPath: /var/lib/meshkey, subPath: store}
    - {name: meshkey-sockets, mountPath: /run/meshkey-admin, subPath: admin}
  containers:
  - name: istio-proxy
    image: registry.example/proxyv2-meshkey:1.32.0
    env:
    - {name: WORKLOAD_IDENTITY_SOCKET_FILE, value: meshkey.sock}
    volumeMounts:
    - {name: meshkey-sockets, mountPath: /run/meshkey, subPath: signer, readOnly: true}
  - name: app
"""


def test_a_pod_as_the_templates_make_it_is_right() -> None:
    assert found(GOOD) == set()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("runAsUser: 1338", "runAsUser: 0 # << signer-user"),
        ("runAsUser: 1338", "runAsUser: 1337 # << signer-user"),
        ("runAsGroup: 1337", "runAsGroup: 1338 # << signer-group"),
        ("runAsGroup: 1337", "runAsGroup: 0 # << signer-group"),
        (
            "allowPrivilegeEscalation: false",
            "allowPrivilegeEscalation: true # << signer-privileges",
        ),
        ("privileged: false", "privileged: true # << signer-privileges"),
        ("{drop: [ALL]}", "{drop: [ALL], add: [IPC_LOCK]} # << signer-privileges"),
        ("{drop: [ALL]}", "{drop: [NET_RAW]} # << signer-privileges"),
        ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false # << writable-root"),
    ],
)
@pytest.mark.parametrize("name", ["meshkey", "meshkey-setup"])
def test_a_wrong_security_context_is_found(right: str, wrong: str, name: str) -> None:
    own = GOOD[GOOD.index("  - name: meshkey\n") : GOOD.index("  containers:")]
    other = own.replace("- name: meshkey\n", f"- name: {name}\n").replace(right, wrong)
    bad = GOOD.replace(own, other if name == "meshkey" else own + other)
    assert found(bad) == marked(bad)


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("runAsUser: 1338", "signer-user"),
        ("runAsGroup: 1337", "signer-group"),
        ("allowPrivilegeEscalation: false", "signer-privileges"),
        ("readOnlyRootFilesystem: true", "writable-root"),
        ("capabilities: {drop: [ALL]}", "signer-privileges"),
    ],
)
def test_a_missing_setting_is_found_where_it_belongs(key: str, rule: str) -> None:
    bad = GOOD.replace(f"      {key}\n", "")
    bad = bad.replace("securityContext:", f"securityContext: # << {rule}")
    assert found(bad) == marked(bad)


def test_the_pods_own_user_counts_where_the_container_has_none() -> None:
    without = GOOD.replace("      runAsUser: 1338\n", "")
    good = without.replace("spec:\n", "spec:\n  securityContext: {runAsUser: 1338}\n")
    assert found(good) == set()
    bad = without.replace("spec:\n", "spec:\n  securityContext: {runAsUser: 0} # << signer-user\n")
    assert found(bad) == marked(bad)


def test_a_sidecar_without_a_startup_probe_is_found() -> None:
    bad = GOOD.replace("    startupProbe: {exec: {command: [health]}}\n", "")
    bad = bad.replace("- name: meshkey\n", "- name: meshkey # << no-startup-probe\n")
    assert found(bad) == marked(bad)


def test_a_sidecar_that_is_not_started_first_is_found() -> None:
    bad = GOOD.replace("- name: meshkey\n", "- name: meshkey # << signer-not-first\n")
    once = bad.replace("    restartPolicy: Always\n", "")
    assert found(once) == marked(once)
    beside = bad.replace("  initContainers:\n", "  containers:\n", 1)
    beside = beside.replace("  containers:\n  - name: istio-proxy", "  - name: istio-proxy")
    assert found(beside) == marked(beside)


@pytest.mark.parametrize(
    "mount",
    [
        "{name: meshkey-store, mountPath: /store, subPath: store}",
        "{name: meshkey-sockets, mountPath: /run}",
        "{name: meshkey-sockets, mountPath: /run, subPath: admin}",
        "{name: meshkey-sockets, mountPath: /run, subPath: ./admin}",
        "{name: meshkey-token, mountPath: /tokens}",
        "{name: meshkey-pin, mountPath: /pin}",
    ],
)
@pytest.mark.parametrize("container", ["istio-proxy", "app"])
def test_a_mount_of_what_is_the_sidecars_alone_is_found(mount: str, container: str) -> None:
    mounts = f"    volumeMounts:\n    - {mount} # << store-shared\n"
    bad = GOOD.replace(
        "    volumeMounts:\n    - {name: meshkey-sockets, mountPath: /run/meshkey,",
        "    more:\n    - {",
    ).replace(f"- name: {container}\n", f"- name: {container}\n{mounts}")
    assert found(bad) == marked(bad)


@pytest.mark.parametrize(
    "variable",
    [
        '{name: MESHKEY_TOKEN_PIN, value: "1234"}',
        "{name: USER_PIN, value: $(OTHER)}",
        "{name: DB_PASSWORD, value: a}",
        "{name: ANY, valueFrom: {secretKeyRef: {name: pin, key: pin}}}",
    ],
)
def test_a_secret_in_the_environment_is_found(variable: str) -> None:
    bad = GOOD.replace("    env:\n", f"    env:\n    - {variable} # << secret-in-environment\n", 1)
    assert found(bad) == marked(bad)


def test_a_whole_secret_in_the_environment_is_found() -> None:
    secret = "    envFrom:\n    - {secretRef: {name: pin}} # << secret-in-environment\n"
    bad = GOOD.replace("    env:\n", f"{secret}    env:\n", 1)
    assert found(bad) == marked(bad)
    config = bad.replace("secretRef", "configMapRef")
    assert found(config) == set()
