"""What docs/sds.md tells a reader to write is what the tests run, or is read as it says."""

from __future__ import annotations

import re
from pathlib import Path

from sidecar.config.load import load
from sidecar.config.settings import SdsSettings
from sidecar.sds.names import RootValidator
from sidecar.sds.watched import RefusedCertificates

ROOT = Path(__file__).parents[2]
_SHOWN = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TESTED = re.compile(r"^ *# docs/sds.md, from here\n(.*?)^ *# to here$", re.DOTALL | re.MULTILINE)

_SECTION = re.compile(r"^```toml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_REST = """
[token]
label = "mesh"
pin_file = "/etc/meshkey/pin"
[identity]
spiffe_id = "spiffe://demo.mesh/ns/demo/sa/web"
trust_bundle = "/etc/meshkey/roots.pem"
[ca]
socket = "/run/meshkey/ca.sock"
[signer]
socket = "/run/meshkey/signer.sock"
[admin]
socket = "/run/meshkey/admin.sock"
"""


def test_the_snippets_are_parts_of_a_tested_bootstrap() -> None:
    page = (ROOT / "docs" / "sds.md").read_text(encoding="utf-8")
    bootstrap = ROOT / "tests" / "e2e" / "bootstraps" / "sds.yaml"
    tested = _TESTED.findall(bootstrap.read_text(encoding="utf-8"))
    assert len(tested) == 2
    assert sorted(_SHOWN.findall(page)) == sorted(tested)


def test_the_sections_of_the_configuration_are_read_as_they_stand(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "sds.md").read_text(encoding="utf-8")
    first, in_a_pod = (_loaded(section, tmp_path) for section in _SECTION.findall(page))
    assert RootValidator(first.root_validator) is RootValidator.SPIFFE
    assert first.file_roots == {Path("/etc/roots/partner.pem")}
    for section in (first, in_a_pod):
        expected = RefusedCertificates(section.refused_certificates)
        assert expected is RefusedCertificates.EXPECTED


def _loaded(section: str, directory: Path) -> SdsSettings:
    config = directory / "meshkey.toml"
    config.write_text(_REST + section, encoding="utf-8")
    sds = load(config, {}).sds
    assert sds
    return sds
