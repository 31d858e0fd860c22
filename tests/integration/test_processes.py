"""`meshkey serve` as a process: a sidecar and a local CA on SoftHSM2."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar._proto.meshkey.signer.v1 import signer_pb2 as pb
from sidecar._proto.meshkey.signer.v1 import signer_pb2_grpc
from sidecar.admin.client import AdminClient, CommandFailed
from sidecar.core.public_key import PublicKey
from sidecar.core.schemes import KeyAlgorithm
from sidecar.token.base import KeyId
from tests.fixtures import certificates
from tests.fixtures.mesh import Mesh, identity_status, spiffe_id, status, wait_for_generation
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.requests import sign_request, verify
from tests.fixtures.streams import SignCall
from tests.fixtures.waiting import eventually, settle, soon


@pytest.fixture(scope="module")
def sidecar(running_mesh: Mesh) -> MeshkeyProcess:
    """One sidecar for the tests that leave it as it was, but for its generation."""
    return running_mesh.start_sidecar("web", identity={"lifetime": "1h"})


@pytest.fixture
async def stub(running_mesh: Mesh, sidecar: MeshkeyProcess) -> Any:
    async with running_mesh.channel("web") as channel:
        yield signer_pb2_grpc.SignerStub(channel)


def _keys(process: MeshkeyProcess) -> set[str]:
    """What `meshkey keys` finds on the token of a process."""
    listed = process.cli("keys", "--json")
    assert listed.returncode == 0, listed.stderr
    return {key["key_id"] for key in json.loads(listed.stdout)}


async def _newest(watch: Any) -> tuple[KeyId, ec.EllipticCurvePublicKey]:
    update = await watch.read()
    leaf = x509.load_der_x509_certificate(update.certificate_chain[0]).public_key()
    assert isinstance(leaf, ec.EllipticCurvePublicKey)
    return KeyId(update.key_id), leaf


async def test_two_hundred_requests_in_flight_are_all_signed(stub: Any, running_mesh: Mesh) -> None:
    watch = stub.WatchIdentity()
    await watch.write(pb.WatchRequest())
    key_id, public_key = await _newest(watch)
    requests = {number: sign_request(key_id, number) for number in range(200)}
    async with running_mesh.channel("web") as channel:
        stream = SignCall(channel)
        await stream.write(*requests.values())
        answers = [await stream.read() for _ in requests]
    assert {answer.request_id for answer in answers} == {*requests}
    for answer in answers:
        verify(public_key, requests[answer.request_id], answer)
    watch.cancel()


@pytest.mark.parametrize("algorithm", [a for a in KeyAlgorithm if a.rsa_bits not in {3072, 4096}])
async def test_a_sidecar_signs_with_every_scheme_that_its_identity_offers(
    running_mesh: Mesh, algorithm: KeyAlgorithm
) -> None:
    name = algorithm.value
    sidecar = running_mesh.start_sidecar(name, identity={"key_algorithm": name})
    (told,) = sidecar.logged("key algorithm tried")
    async with running_mesh.channel(name) as channel:
        watch = signer_pb2_grpc.SignerStub(channel).WatchIdentity()
        await watch.write(pb.WatchRequest())
        update = await watch.read()
        assert update.schemes == list(algorithm.schemes)
        assert [*told["schemes"]] == [scheme.name for scheme in algorithm.schemes]
        leaf = x509.load_der_x509_certificate(update.certificate_chain[0]).public_key()
        assert isinstance(leaf, PublicKey)
        stream = SignCall(channel)
        for scheme in algorithm.schemes:
            request = sign_request(update.key_id)
            request.scheme = scheme
            await stream.write(request)
            answer = await stream.read()
            if scheme.is_pkcs1:
                assert answer.refusal.reason == pb.Refusal.REASON_SCHEME
            else:
                verify(leaf, request, answer)
        watch.cancel()
    assert sidecar.stop() == 0


async def test_a_rotation_by_command_reaches_the_watcher(
    stub: Any, sidecar: MeshkeyProcess
) -> None:
    watch = stub.WatchIdentity()
    await watch.write(pb.WatchRequest())
    old, _ = await _newest(watch)
    before = identity_status(sidecar).generation
    rotated = sidecar.cli("rotate")
    assert rotated.returncode == 0, rotated.stderr
    assert rotated.stdout == f"default: generation {before + 1} is published\n"
    new, public_key = await _newest(watch)
    assert new != old
    request = sign_request(new)
    verify(public_key, request, await stub.Sign(request))
    watch.cancel()


def test_the_status_command_shows_the_identity(sidecar: MeshkeyProcess) -> None:
    shown = sidecar.cli("status", "--json")
    assert shown.returncode == 0, shown.stderr
    answer = json.loads(shown.stdout)
    assert (answer["token"], answer["assurance"]) == ("web", "software")
    (identity,) = answer["identities"]
    assert identity["spiffe_id"] == spiffe_id("web")
    assert identity["generation"] >= 1
    assert identity["last_error"] == ""
    table = sidecar.cli("status")
    assert table.returncode == 0
    assert "software" in table.stdout


def test_an_unknown_identity_cannot_be_rotated(sidecar: MeshkeyProcess) -> None:
    with sidecar.admin() as client, pytest.raises(CommandFailed, match="no identity 'nobody'"):
        client.rotate("nobody")


def test_the_local_ca_has_no_identities_and_answers_too(running_mesh: Mesh) -> None:
    (issuer,) = [p for p in _processes(running_mesh) if p.config.stem == "ca"]
    answer = status(issuer)
    assert list(answer.identities) == []
    assert answer.token.label == "ca"


def _processes(mesh: Mesh) -> list[MeshkeyProcess]:
    return [p for p in mesh.started if p.running]


def test_sockets_have_the_modes_of_their_callers(
    running_mesh: Mesh, sidecar: MeshkeyProcess
) -> None:
    directory = running_mesh.directory
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in directory.iterdir()
        if path.is_socket()
    }
    callers = dict.fromkeys(("ca-rpc", "web-rpc", "web-direct"), 0o660)
    assert modes == {**callers, "ca-admin": 0o600, "web-admin": 0o600}


def test_the_pin_is_in_no_log_no_argument_and_no_environment(
    running_mesh: Mesh, sidecar: MeshkeyProcess
) -> None:
    for process in _processes(running_mesh):
        pin = running_mesh.pin(process.config.stem)
        assert len(pin) >= 16
        assert pin not in process.log_text()
        # Who is not root cannot read an undumpable process's environment at all.
        for name in ("cmdline", "environ") if os.geteuid() == 0 else ("cmdline",):
            content = Path(f"/proc/{process.pid}/{name}").read_bytes()
            assert content
            assert pin.encode() not in content


def test_the_local_ca_says_that_it_is_for_evaluation(running_mesh: Mesh) -> None:
    (issuer,) = [p for p in _processes(running_mesh) if p.config.stem == "ca"]
    (warning,) = [
        json.loads(line) for line in issuer.log_text().splitlines() if "for evaluation" in line
    ]
    assert warning["level"] == "warning"


# Starting and stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_destroys_the_keys_and_exits_with_0(
    mesh: Mesh, number: signal.Signals
) -> None:
    mesh.start_issuer()
    sidecar = mesh.start_sidecar()
    with sidecar.admin() as client:
        client.rotate("default")
    assert len(_keys(sidecar)) == 2
    assert sidecar.stop(number) == 0, sidecar.log_text()
    assert _keys(sidecar) == set()
    assert not mesh.socket("web").exists()
    assert "Traceback" not in sidecar.log_text()


def test_the_local_ca_keeps_its_key_and_its_root(mesh: Mesh) -> None:
    issuer = mesh.start_issuer()
    root, keys = mesh.root_file.read_bytes(), _keys(issuer)
    assert issuer.stop() == 0, issuer.log_text()
    issuer = mesh.start_issuer()
    assert mesh.root_file.read_bytes() == root
    assert _keys(issuer) == keys
    assert mesh.start_sidecar().stop() == 0


def test_a_ca_that_comes_late_is_found(mesh: Mesh) -> None:
    sidecar = mesh.serve("web", mesh.sidecar_settings())
    sidecar.wait_until_ready()
    eventually(lambda: identity_status(sidecar).last_error, "the first failure")
    assert "No such file" in identity_status(sidecar).last_error
    mesh.root_file.write_text("no root yet")
    eventually(lambda: "no readable PEM" in identity_status(sidecar).last_error)
    mesh.root_file.unlink()
    mesh.start_issuer()
    identity = wait_for_generation(sidecar, 1)
    assert identity.last_error == ""
    assert _keys(sidecar) == {identity.key_id.hex()}


def test_a_ca_that_leaves_takes_nothing_away(mesh: Mesh) -> None:
    issuer = mesh.start_issuer()
    sidecar = mesh.start_sidecar()
    before = identity_status(sidecar)
    issuer.stop()
    with sidecar.admin() as client, pytest.raises(CommandFailed, match="local CA: UNAVAILABLE"):
        client.rotate("default")
    after = identity_status(sidecar)
    assert (after.generation, after.key_id) == (1, before.key_id)
    assert "UNAVAILABLE" in after.last_error
    assert _keys(sidecar) == {after.key_id.hex()}
    mesh.start_issuer()
    with sidecar.admin() as client:
        eventually(lambda: _rotates(client), "the CA is found again")
    assert identity_status(sidecar).last_error == ""


def _rotates(client: AdminClient) -> bool:
    try:
        return client.rotate("default") == 2
    except CommandFailed:
        return False


@pytest.fixture
def _silent_ca(mesh: Mesh) -> Iterator[None]:
    """Something that accepts connections for a CA, and never says a word."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(mesh.socket("ca")))
        silent.listen()
        yield


@pytest.mark.usefixtures("_silent_ca")
def test_stopping_during_a_renewal_leaves_no_key(mesh: Mesh) -> None:
    mesh.root_file.write_bytes(certificates.root().pem)
    sidecar = mesh.serve("web", mesh.sidecar_settings())
    sidecar.wait_until_ready()
    eventually(lambda: len(_keys(sidecar)) == 1, "the key of the renewal under way")
    assert sidecar.stop() == 0, sidecar.log_text()
    assert _keys(sidecar) == set()
    assert "Traceback" not in sidecar.log_text()


def test_a_killed_sidecar_is_followed_by_one_that_works(mesh: Mesh) -> None:
    mesh.start_issuer()
    mesh.start_sidecar().kill()
    assert mesh.socket("web").exists()
    assert identity_status(mesh.start_sidecar()).generation == 1


def test_keys_of_a_killed_sidecar_are_destroyed_and_its_neighbours_are_not(mesh: Mesh) -> None:
    mesh.start_issuer()
    grace = {"orphan_grace": "1s"}
    killed = mesh.start_sidecar(identity=grace)
    neighbour = mesh.start_neighbour("web", "second", identity=grace)
    orphan, theirs = identity_status(killed).key_id.hex(), identity_status(neighbour).key_id.hex()
    killed.kill()
    assert _keys(killed) == {orphan, theirs}
    follower = mesh.start_sidecar(identity=grace)
    ours = identity_status(follower).key_id.hex()
    eventually(lambda: _keys(follower) == {theirs, ours}, "the orphan is destroyed")
    (found,) = follower.logged("keys of an earlier start found, destroying them")
    assert found["key_ids"] == [orphan]
    assert orphan in {entry["key_id"] for entry in follower.logged("key destroyed")}
    assert not neighbour.logged("key destroyed")


def test_the_probe_shows_what_the_token_can_do_and_leaves_nothing(mesh: Mesh) -> None:
    config = mesh.serve("web", mesh.common_settings("web"))
    config.kill()
    two = ["--algorithm", "ec-p256", "--algorithm", "ed25519"]
    probed = config.cli("token", "probe", "--json", *two)
    assert probed.returncode == 0, probed.stderr
    progress = [line for line in probed.stderr.splitlines() if not line.startswith("{")]
    assert progress == ["trying ec-p256", "trying ed25519"]
    report = json.loads(probed.stdout)
    assert report["profile"] == "softhsm2"
    assert {"name": "ECDSA", "smallest": 112, "largest": 521}.items() <= next(
        m for m in report["mechanisms"] if m["name"] == "ECDSA"
    ).items()
    schemes = {tried["algorithm"]: tried["schemes"] for tried in report["algorithms"]}
    assert [s["mechanism"] for s in schemes["ec-p256"]] == ["ECDSA"]
    assert [s["mechanism"] for s in schemes["ed25519"]] == ["EDDSA"]
    assert schemes["ec-p256"][0]["median_ms"] > 0
    table = config.cli("token", "probe", "--algorithm", "ec-p256")
    assert "hashed outside" in table.stdout
    assert "hashed outside" in table.stdout
    assert _keys(config) == set()
    wrong = config.cli("token", "probe", "--algorithm", "dsa")
    assert wrong.returncode == 64
    assert "one of ec-p256" in wrong.stderr


def test_the_doctor_says_what_it_found(mesh: Mesh) -> None:
    config = mesh.serve("web", mesh.common_settings("web", token={"threads": "64"}))
    config.kill()
    examined = config.cli("doctor", "--json")
    assert examined.returncode == 0, examined.stderr
    findings = {finding["check"]: finding for finding in json.loads(examined.stdout)}
    assert findings["assurance"]["verdict"] == "warning"
    assert "software" in findings["assurance"]["detail"]
    assert findings["readback"]["verdict"] == "ok"
    assert "ECDSA_SECP256R1_SHA256" in findings["schemes"]["detail"]
    assert _keys(config) == set()
    mesh.store("web").tokens.rename(mesh.directory / "elsewhere")
    broken = config.cli("doctor")
    assert broken.returncode == 69
    assert "failure" in broken.stdout
    assert "C_Initialize failed" in broken.stdout


def test_a_second_sidecar_does_not_take_the_first_ones_socket(mesh: Mesh) -> None:
    mesh.start_issuer()
    first = mesh.start_sidecar()
    settings = first.config.read_text(encoding="utf-8").replace("web-admin", "second-admin")
    second = mesh.directory / "second.toml"
    second.write_text(settings, encoding="utf-8")
    intruder = MeshkeyProcess(second, first.environment)
    assert intruder.wait() == 69
    assert "another process serves" in intruder.log_text()
    with first.admin() as client:
        assert client.rotate("default") == 2


async def test_a_store_that_leaves_and_comes_back_needs_no_restart(mesh: Mesh) -> None:
    mesh.start_issuer()
    sidecar = mesh.start_sidecar()
    tokens = mesh.store("web").tokens
    key_id = identity_status(sidecar).key_id
    async with mesh.channel("web") as channel:
        stub = signer_pb2_grpc.SignerStub(channel)

        async def result() -> str:
            answer = await stub.Sign(sign_request(key_id))
            return str(answer.WhichOneof("result"))

        assert await result() == "signature"
        tokens.rename(tokens.with_name("elsewhere"))
        tokens.mkdir()
        assert [await result() for _ in range(3)] == ["retry"] * 3
        tokens.rmdir()
        tokens.with_name("elsewhere").rename(tokens)
        # After several failures it is asked again when a pause is over, 2 s at most.
        while (answer := await result()) == "retry":
            await settle()
        assert answer == "signature"
    assert sidecar.running


async def test_an_expired_identity_is_renewed_and_the_old_key_goes(mesh: Mesh) -> None:
    mesh.start_issuer()
    sidecar = mesh.start_sidecar(identity={"lifetime": "10s"})
    first = identity_status(sidecar).key_id
    async with mesh.channel("web") as channel:
        watch = signer_pb2_grpc.SignerStub(channel).WatchIdentity()
        await watch.write(pb.WatchRequest())
        assert (await watch.read()).generation == 1
        # Without a command: half of the lifetime is over.
        assert (await watch.read()).generation == 2
        # It is never acknowledged, so the key goes with its certificate.
        await soon(lambda: first.hex() in _destroyed(sidecar), "the old key is destroyed")
        assert first.hex() not in _keys(sidecar)
        watch.cancel()


def _destroyed(process: MeshkeyProcess) -> set[str]:
    return {event["key_id"] for event in process.logged("key destroyed")}


# What cannot start


def _fails(mesh: Mesh, settings: str, name: str = "web") -> tuple[int, str]:
    process = mesh.serve(name, settings)
    code = process.wait()
    assert "Traceback" not in process.log_text()
    lines = [line for line in process.log_text().splitlines() if not line.startswith("{")]
    (line,) = lines
    assert line.startswith("meshkey: ")
    return code, line


def test_a_sidecar_that_is_an_issuer_too_is_refused(mesh: Mesh) -> None:
    issuer = mesh.issuer_settings().partition("[issuer]")[2]
    code, line = _fails(mesh, f"{mesh.sidecar_settings()}[issuer]{issuer}")
    assert code == 64
    assert "a sidecar must not mint identities" in line


def test_a_process_with_nothing_to_do_is_refused(mesh: Mesh) -> None:
    code, line = _fails(mesh, mesh.common_settings("web"))
    assert code == 64
    assert "nothing to serve" in line


@pytest.mark.parametrize("missing", ["ca", "signer"])
def test_a_sidecar_needs_a_ca_and_a_socket(mesh: Mesh, missing: str) -> None:
    section = rf"^\[{missing}\]\n([a-z_]+ = .*\n)+"
    settings, found = re.subn(section, "", mesh.sidecar_settings(), flags=re.MULTILINE)
    assert found == 1
    code, line = _fails(mesh, settings)
    assert code == 64
    assert "[identity] needs the sections [ca] and [signer]" in line


def test_a_wrong_pin_is_one_line_without_the_pin(mesh: Mesh, short_dir: Path) -> None:
    pin_file = short_dir / "wrong.pin"
    pin_file.write_text("not-the-pin")
    pin_file.chmod(0o400)
    settings = mesh.sidecar_settings(token={"pin_file": str(pin_file)})
    code, line = _fails(mesh, settings)
    assert code == 77
    assert "refused the PIN" in line
    assert "not-the-pin" not in line


def test_a_restart_after_a_wrong_pin_tries_nothing(mesh: Mesh, short_dir: Path) -> None:
    pin_file = mesh.store("web").directory / "web.pin"
    right = pin_file.read_text()
    _replace(pin_file, "not-the-pin")
    settings = mesh.sidecar_settings(token={"state": str(short_dir / "state")})
    for expected in ("put the right one there and start again", "it is still the same", "the same"):
        code, line = _fails(mesh, settings)
        assert code == 77
        assert expected in line
    _replace(pin_file, right)
    mesh.start_issuer()
    mesh.start_sidecar(token={"state": str(short_dir / "state")})
    assert not list((short_dir / "state").iterdir())


def _replace(file: Path, content: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(content)
    new.chmod(0o400)
    new.replace(file)


def test_production_refuses_a_token_in_software(mesh: Mesh) -> None:
    code, line = _fails(mesh, mesh.sidecar_settings(token={"mode": "production"}))
    assert code == 64
    assert "softhsm2 keeps keys in software" in line
    assert "use a token in hardware, or token.mode standard" in line


def test_no_profile_makes_a_token_in_software_hardware(mesh: Mesh) -> None:
    token = {"mode": "production", "profile": "sgx-ctk"}
    code, line = _fails(mesh, mesh.sidecar_settings(token=token))
    assert code == 64
    assert "keeps keys in software" in line


@pytest.mark.parametrize(
    ("mode", "code", "said"),
    [("standard", 64, "a PIN that everybody knows"), ("development", 77, "refused the PIN")],
)
def test_a_well_known_pin_is_tried_in_development_only(
    mesh: Mesh, mode: str, code: int, said: str
) -> None:
    _replace(mesh.store("web").directory / "web.pin", "12345678")
    ended, line = _fails(mesh, mesh.sidecar_settings(token={"mode": mode}))
    assert ended == code
    assert said in line
    assert "12345678" not in line


def test_in_development_the_environment_may_hold_the_pin(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = mesh.pin("ca")
    monkeypatch.setenv("MESHKEY_TOKEN_PIN", pin)
    settings = mesh.issuer_settings().replace("pin_file = ", 'mode = "development"\n#')
    process = mesh.serve("ca", settings)
    process.wait_until_ready()
    (warning,) = process.logged("PIN given in plain text: for development only")
    assert warning["source"] == "MESHKEY_TOKEN_PIN"
    assert pin not in process.log_text()
    assert pin.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()


def test_a_token_is_found_by_its_uri(mesh: Mesh) -> None:
    pin_file = mesh.store("ca").directory / "ca.pin"
    uri = f"pkcs11:token=ca;model=SoftHSM%20v2?pin-source=file:{pin_file}"
    settings = mesh.issuer_settings().replace(
        f'label = "ca"\npin_file = "{pin_file}"', f'uri = "{uri}"'
    )
    assert uri in settings
    mesh.serve("ca", settings).wait_until_ready()


def test_a_pin_file_that_others_may_read_is_refused(mesh: Mesh) -> None:
    (mesh.store("web").directory / "web.pin").chmod(0o444)
    code, line = _fails(mesh, mesh.sidecar_settings())
    assert code == 64
    assert "open to others; chmod 0400" in line


def test_a_token_that_is_not_there_is_named(mesh: Mesh) -> None:
    code, line = _fails(mesh, mesh.sidecar_settings(token={"label": "other"}))
    assert code == 69
    assert "0 tokens labelled 'other'" in line
    assert "it has: web" in line


def test_a_missing_socket_directory_is_named(mesh: Mesh) -> None:
    settings = mesh.sidecar_settings().replace("web-rpc", "gone/web")
    code, line = _fails(mesh, settings)
    assert code == 69
    assert "gone is no directory; create it first" in line


def test_a_root_file_that_is_something_else_stops_the_local_ca(mesh: Mesh) -> None:
    mesh.root_file.write_text("precious")
    code, line = _fails(mesh, mesh.issuer_settings(), "ca")
    assert code == 69
    assert "holds no certificate; move it away" in line
    assert mesh.root_file.read_text() == "precious"
