"""The nodes' profiles: those that pods name are among the files."""

from __future__ import annotations

import json

from sidecar.istio.pods.node_profiles import node_profiles
from sidecar.istio.pods.security import confined, proxy
from tests.fixtures.istio_values import values


def test_the_profiles_that_pods_name_are_written() -> None:
    files = {each.path: each.content for each in node_profiles()}
    of = values(node_profiles=True)
    for context in (confined(of), proxy(of)):
        directory, _, name = context["seccompProfile"]["localhostProfile"].partition("/")
        assert directory == "meshkey"
        assert json.loads(files[f"node/seccomp/{name}"])["defaultAction"] == "SCMP_ACT_ERRNO"
        profile = context["appArmorProfile"]["localhostProfile"]
        assert f"\nprofile {profile} " in files[f"node/apparmor/{profile}"]
