"""The commands of docs/ca.md, run as an operator runs them, make what meshkey waits for."""

from __future__ import annotations

import asyncio
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from sidecar.ca.file import FileAuthority
from sidecar.core.chain import verified_chain
from sidecar.core.csr import build_csr
from sidecar.core.spiffe import SpiffeId
from tests.fixtures import certificates

PAGE = Path(__file__).parents[2] / "docs" / "ca.md"
ID = SpiffeId.parse("spiffe://demo.mesh/web")
KEY = certificates.new_key()


async def test_the_commands_of_the_page_sign_a_request(tmp_path: Path) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Air-gapped: file\n")[2]
    look, sign, make_ca = re.findall(r"```sh\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    medium = tmp_path / "medium"
    medium.mkdir()

    def run(commands: str) -> str:
        ran = subprocess.run(
            ["bash", "-euc", commands],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "medium": str(medium), "name": "web"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not ran.returncode, ran.stderr
        return ran.stdout

    async def operate(_pause: float) -> None:
        seen = await asyncio.to_thread(run, look)
        assert f"URI:{ID}" in seen
        await asyncio.to_thread(run, make_ca + sign)

    authority = FileAuthority(medium, "web", timedelta(minutes=1), sleep=operate)
    answer = await authority.sign(build_csr(ID, KEY), timedelta(days=30))
    chain = verified_chain(
        answer,
        public_key=KEY.public_key(),
        spiffe_id=ID,
        roots=[x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())],
        now=datetime.now(UTC),
    )
    assert chain.not_after - chain.not_before == timedelta(days=30)
    assert [file.name for file in medium.iterdir()] == ["web.pem"]
