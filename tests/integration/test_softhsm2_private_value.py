"""The private value of a key that the real SoftHSM2 made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.errors import NoSuchKey
from sidecar.proof.memory import scan
from sidecar.proof.needles import needles
from sidecar.proof.softhsm2 import WrongPin, private_value, token_directory

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "1234"
KEY_ID = bytes.fromhex("0a1f")

# SoftHSM2 reads its configuration once, at C_Initialize: each store needs a process of its own.
GENERATE = """
import json, sys, time
import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism
from pkcs11.util.ec import encode_named_curve_parameters

request = json.load(sys.stdin)
token = pkcs11.lib(request["module"]).get_token(token_label="mesh")

def login(tries=5):
    # SoftHSM2 now and then fails C_Login when processes start together.
    try:
        return token.open(rw=True, user_pin=request["pin"])
    except pkcs11.GeneralError:
        if tries == 1:
            raise
        time.sleep(0.1)
        return login(tries - 1)

with login() as session:
    params = encode_named_curve_parameters(request["curve"])
    domain = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: params}, local=True
    )
    public, private = domain.generate_keypair(
        store=True, id=bytes.fromhex(request["id"]), label="workload"
    )
    answer = {
        "point": public[Attribute.EC_POINT].hex(),
        "born": [
            private[attribute]
            for attribute in (
                Attribute.SENSITIVE, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE
            )
        ],
        "signature": private.sign(bytes(32), mechanism=Mechanism.ECDSA).hex(),
    }
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class BornKey:
    token_dir: Path
    point: bytes


MakeKey = Callable[[str], BornKey]


@pytest.fixture
def make_key(tmp_path: Path) -> MakeKey:
    """Makes a token, and in it a key on the named curve."""
    store = tmp_path / "tokens"
    store.mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {store}\nobjectstore.backend = file\n")
    environment = os.environ | {"SOFTHSM2_CONF": str(configuration)}

    def make(curve: str) -> BornKey:
        initialise = ["softhsm2-util", "--init-token", "--free", "--label", "mesh"]
        pins = ["--pin", PIN, "--so-pin", "5678"]
        subprocess.run([*initialise, *pins], env=environment, check=True, capture_output=True)
        request = {"module": MODULE, "pin": PIN, "curve": curve, "id": KEY_ID.hex()}
        answered = subprocess.run(
            [sys.executable, "-c", GENERATE],
            input=json.dumps(request),
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        answer = json.loads(answered.stdout)
        assert answer["born"] == [True, True, True]
        return BornKey(token_directory(store, "mesh"), bytes.fromhex(answer["point"]))

    return make


@pytest.mark.parametrize(
    ("name", "curve", "size"),
    [
        ("secp256r1", ec.SECP256R1(), 32),
        ("secp384r1", ec.SECP384R1(), 48),
        ("secp521r1", ec.SECP521R1(), 66),
    ],
)
def test_the_value_has_the_public_point_that_the_token_reports(
    make_key: MakeKey, name: str, curve: ec.EllipticCurve, size: int
) -> None:
    key = make_key(name)
    value = private_value(key.token_dir, PIN, KEY_ID)
    public = ec.derive_private_key(int.from_bytes(value), curve).public_key()
    assert len(value) == size
    assert key.point.endswith(public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def test_a_wrong_pin_and_an_unknown_key_are_refused(make_key: MakeKey) -> None:
    key = make_key("secp256r1")
    with pytest.raises(WrongPin):
        private_value(key.token_dir, "4321", KEY_ID)
    with pytest.raises(NoSuchKey):
        private_value(key.token_dir, PIN, b"\x01")


def test_a_process_that_was_given_the_value_is_told_from_one_that_was_not(
    make_key: MakeKey,
) -> None:
    value = private_value(make_key("secp256r1").token_dir, PIN, KEY_ID)
    assert hits_in_holder_of(value, value)
    assert not hits_in_holder_of(os.urandom(32), value)


def hits_in_holder_of(held: bytes, sought: bytes) -> bool:
    program = "import sys; held = bytes.fromhex(input()); print('held', flush=True); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(held.hex() + "\n")
        assert process.stdout.readline() == "held\n"
        result = scan(process.pid, needles(sought))
        process.stdin.write("\n")
    return bool(result.hits)
