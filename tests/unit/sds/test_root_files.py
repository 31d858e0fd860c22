"""Roots in files that the configuration names."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import grpc.aio
import pytest
import structlog
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from sidecar.core.trust import TrustBundle
from sidecar.errors import SecretNotReady
from sidecar.sds import resources
from tests.fixtures import certificates
from tests.fixtures.discovery import SecretsCall
from tests.fixtures.waiting import soon
from tests.unit.sds.conftest import Sds


@pytest.fixture(autouse=True)
def _default_logging() -> None:
    structlog.reset_defaults()


def secret(sds: Sds, *roots: certificates.Signed) -> bytes:
    bundle = TrustBundle.parse("", b"".join(root.pem for root in roots))
    return resources.trusted_ca(f"file-root:{sds.file}", bundle)


def replace_file(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.rename(file)


async def test_a_file_is_a_trusted_ca_and_is_looked_at_again(
    sds: Sds, channel: grpc.aio.Channel
) -> None:
    old, new = certificates.root("old"), certificates.root("new")
    replace_file(sds.file, old.pem)
    call = SecretsCall(channel)
    await call.ask(f"file-root:{sds.file}")
    first = await call.answer()
    assert [each.value for each in first.resources] == [secret(sds, old)]
    replace_file(sds.file, new.pem)
    second = await call.answer()
    assert [each.value for each in second.resources] == [secret(sds, new)]
    call.cancel()


async def test_nothing_of_a_file_with_a_private_key_is_sent(sds: Sds) -> None:
    root = certificates.root()
    key = certificates.new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    sds.file.write_bytes(root.pem + key)
    with pytest.raises(SecretNotReady, match="a private key lies in the trust bundle"):
        await sds.source.now(f"file-root:{sds.file}")


async def test_text_around_the_certificates_is_not_sent(sds: Sds) -> None:
    root = certificates.root()
    sds.file.write_bytes(b"# the mesh's\n" + root.pem)
    assert await sds.source.now(f"file-root:{sds.file}") == secret(sds, root)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "no readable PEM certificate"),
        (b"\xff" * 100, "no readable PEM certificate"),
        (b"\n" * (1024 * 1024 + 1), "larger than 1048576 bytes"),
    ],
)
async def test_a_file_that_is_no_bundle_is_not_ready(
    sds: Sds, content: bytes | None, reason: str
) -> None:
    if content is not None:
        sds.file.write_bytes(content)
    with pytest.raises(SecretNotReady, match=reason):
        await sds.source.now(f"file-root:{sds.file}")


async def test_what_is_no_file_is_not_opened(sds: Sds) -> None:
    os.mkfifo(sds.file)
    with pytest.raises(SecretNotReady, match="no regular file"):
        await sds.source.now(f"file-root:{sds.file}")


async def test_a_certificate_that_is_no_ca_is_not_sent(sds: Sds) -> None:
    issuer = certificates.root()
    leaf = certificates.leaf(issuer, certificates.new_key().public_key(), "spiffe://a.mesh/x")
    sds.file.write_bytes(leaf.public_bytes(Encoding.PEM))
    with pytest.raises(SecretNotReady, match="is no CA"):
        await sds.source.now(f"file-root:{sds.file}")


async def test_who_asks_for_a_file_that_is_not_there_is_answered_when_it_is(sds: Sds) -> None:
    client = sds.sotw()
    with capture_logs() as logged:
        assert await client.say(f"file-root:{sds.file}") is None
        await soon(lambda: logged)
        # Looked at again, and not said again.
        looked = [0]
        load = sds.source._files.load

        async def count(path: Path) -> TrustBundle:
            looked[0] += 1
            return await load(path)

        sds.source._files.load = count  # type: ignore[method-assign]
        await soon(lambda: looked[0] >= 3)
        root = certificates.root()
        replace_file(sds.file, root.pem)
        (watched,) = client._followed
        await soon(lambda: watched.is_news)
    (entry,) = logged
    assert "No such file or directory" in entry["error"]
    client.leave()


async def test_a_file_that_becomes_unreadable_takes_nothing_away(sds: Sds) -> None:
    replace_file(sds.file, certificates.root().pem)
    client = sds.sotw()
    first = await client.say(f"file-root:{sds.file}")
    (watched,) = client._followed
    await soon(lambda: watched.secret)  # a thread reads it
    assert first or await client.wait()
    with capture_logs() as logged:
        replace_file(sds.file, b"half an upd")
        await soon(lambda: logged)
        assert await client.wait() is None
        assert watched.secret
        replace_file(sds.file, certificates.root().pem)
        await soon(lambda: watched.is_news)
    assert len(logged) == 1
    client.leave()


async def test_streams_share_one_look_at_a_file(sds: Sds, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    opened = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def to_thread(_read: object, path: Path) -> SecretNotReady:
        looks.append(path)
        await opened.wait()
        return SecretNotReady("late")

    monkeypatch.setattr(asyncio, "to_thread", to_thread)
    name = f"file-root:{sds.file}"
    waiting = [loop.create_task(sds.source.now(name)) for _ in range(10)]
    await soon(lambda: looks)
    waiting[0].cancel()
    waiting.append(loop.create_task(sds.source.now(name)))
    opened.set()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError, *[SecretNotReady] * 10]
    assert len(looks) == 1
