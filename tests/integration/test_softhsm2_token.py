"""The PKCS#11 backend on the real SoftHSM2: what the contract cannot show."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType, ObjectClass

from sidecar.core.public_key import verify
from sidecar.core.token_selector import TokenSelector
from sidecar.demo.softhsm import SoftHsmStore
from sidecar.errors import (
    ConfigurationError,
    KeyUnsuitable,
    NoSuchKey,
    TokenError,
    TokenUnavailable,
)
from sidecar.token.base import Assurance, KeyId, TokenKey
from sidecar.token.keypair import require_born
from sidecar.token.login import Login
from sidecar.token.pin_sources import PinFile
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import SOFTHSM2, TokenProfile
from tests.conftest import MESH, MODULE, OpenToken
from tests.fixtures.requests import ALGORITHM, SCHEME
from tests.fixtures.waiting import BOUND_S, eventually


def _verify(key: TokenKey, message: bytes, signature: bytes) -> None:
    verify(key.public_key, SCHEME, signature, message)


def _profile(**private: bool | None) -> TokenProfile:
    template = {Attribute[name]: value for name, value in private.items()}
    return TokenProfile("test", Assurance.SOFTWARE, private_template=template)


def _objects(token: Pkcs11Token) -> list[object]:
    return token._sessions.use("a test", lambda state: list(state.session.get_objects()))


@contextmanager
def _away(store: SoftHsmStore) -> Iterator[None]:
    """The store is gone, as when its volume was lost."""
    elsewhere = store.tokens.with_name("elsewhere")
    store.tokens.rename(elsewhere)
    store.tokens.mkdir()
    try:
        yield
    finally:
        store.tokens.rmdir()
        elsewhere.rename(store.tokens)


# Keys that could leave


@pytest.mark.parametrize(
    ("private", "named"),
    [
        ({"EXTRACTABLE": True}, "EXTRACTABLE is True, NEVER_EXTRACTABLE is False"),
        ({"SENSITIVE": False}, "SENSITIVE is False, ALWAYS_SENSITIVE is False"),
        ({"SENSITIVE": False, "EXTRACTABLE": True}, "SENSITIVE is False, EXTRACTABLE is True"),
    ],
)
def test_a_key_that_could_leave_the_token_is_refused_and_destroyed(
    open_token: OpenToken, private: dict[str, bool], named: str
) -> None:
    token = open_token(_profile(**private))
    with pytest.raises(KeyUnsuitable, match=named):
        token.generate(ALGORITHM, "web")
    assert _objects(token) == []


def test_a_key_of_ours_signs_and_does_nothing_else(softhsm_token: Pkcs11Token) -> None:
    softhsm_token.generate(ALGORITHM, "web")
    template = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    (private,) = softhsm_token._sessions.use(
        "a test", lambda state: list(state.session.get_objects(template))
    )
    expected = {
        Attribute.PRIVATE: True,
        Attribute.TOKEN: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.ALWAYS_SENSITIVE: True,
        Attribute.NEVER_EXTRACTABLE: True,
        Attribute.LOCAL: True,
        Attribute.SIGN: True,
        Attribute.DECRYPT: False,
        Attribute.DERIVE: False,
        Attribute.UNWRAP: False,
    }
    assert {attribute: private[attribute] for attribute in expected} == expected
    with pytest.raises(pkcs11.AttributeSensitive):
        private[Attribute.VALUE]


@pytest.mark.parametrize(
    "name", ["SENSITIVE", "EXTRACTABLE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "LOCAL"]
)
def test_every_attribute_of_a_born_key_is_looked_at(name: str) -> None:
    born = {
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.ALWAYS_SENSITIVE: True,
        Attribute.NEVER_EXTRACTABLE: True,
        Attribute.LOCAL: True,
    }
    require_born(born)
    with pytest.raises(KeyUnsuitable, match=f"{name} is"):
        require_born({**born, Attribute[name]: not born[Attribute[name]]})
    with pytest.raises(KeyUnsuitable, match=f"{name} cannot be read"):
        require_born(_Unreadable(born, Attribute[name]))


class _Unreadable(dict[Attribute, bool]):
    def __init__(self, known: dict[Attribute, bool], hidden: Attribute) -> None:
        super().__init__(known)
        self._hidden = hidden

    def __getitem__(self, attribute: Attribute) -> bool:
        if attribute is self._hidden:
            raise pkcs11.AttributeSensitive
        return super().__getitem__(attribute)


# Threads and processes


def test_eight_threads_sign_and_make_keys_and_every_signature_is_right(
    softhsm_token: Pkcs11Token,
) -> None:
    shared, together = softhsm_token.generate(ALGORITHM, "shared"), threading.Barrier(8)

    def work(number: int) -> None:
        together.wait(BOUND_S)
        for round_ in range(60):
            message = f"{number} {round_}".encode()
            _verify(shared, message, softhsm_token.sign(shared.id, SCHEME, message))
            if round_ % 10 == 0:
                own = softhsm_token.generate(ALGORITHM, f"own {number}")
                _verify(own, message, softhsm_token.sign(own.id, SCHEME, message))
                softhsm_token.destroy(own.id)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert softhsm_token.keys() == [shared]
    assert softhsm_token._sessions.starts == 1, "nothing was lost on the way"


_OTHER_PROCESS = """
import sys
from pathlib import Path
from sidecar.core.schemes import KeyAlgorithm, SignatureScheme
from sidecar.token.base import KeyId
from sidecar.core.token_selector import TokenSelector
from sidecar.token.login import Login
from sidecar.token.pin_sources import PinFile
from sidecar.token.pkcs11 import Pkcs11Token
from sidecar.token.profiles import SOFTHSM2

selector, login = TokenSelector(label="mesh"), Login(PinFile(Path(sys.argv[2])))
token = Pkcs11Token.open(Path(sys.argv[1]), selector, login, SOFTHSM2)
for line in sys.stdin:
    verb, argument = line.split()
    if verb == "generate":
        print(token.generate(KeyAlgorithm.EC_P256, argument).id, flush=True)
    elif verb == "sign":
        key_id = KeyId(bytes.fromhex(argument))
        print(token.sign(key_id, SignatureScheme.ECDSA_SECP256R1_SHA256, b"m").hex(), flush=True)
    elif verb == "destroy":
        token.destroy(KeyId(bytes.fromhex(argument)))
        print("destroyed", flush=True)
"""


@contextmanager
def _other_process(store: SoftHsmStore) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _OTHER_PROCESS, str(MODULE), str(store.directory / "mesh.pin")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        yield process
        process.kill()


def _ask(process: subprocess.Popen[str], question: str) -> str:
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{question}\n")
    return process.stdout.readline().strip()


def test_two_processes_share_one_store(softhsm: SoftHsmStore, softhsm_token: Pkcs11Token) -> None:
    ours = softhsm_token.generate(ALGORITHM, "ours")
    with _other_process(softhsm) as other:
        theirs = KeyId(bytes.fromhex(_ask(other, "generate theirs")))
        _verify(ours, b"m", bytes.fromhex(_ask(other, f"sign {ours.id}")))
        listed = softhsm_token.keys()
        found = {key.id: key for key in listed}
        _verify(found[theirs], b"m", softhsm_token.sign(theirs, SCHEME, b"m"))


def test_a_key_that_another_process_destroyed_is_no_key_any_more(
    softhsm: SoftHsmStore, softhsm_token: Pkcs11Token
) -> None:
    key, other_key = (
        softhsm_token.generate(ALGORITHM, "web"),
        softhsm_token.generate(ALGORITHM, "other"),
    )
    softhsm_token.sign(key.id, SCHEME, b"m")
    with _other_process(softhsm) as other:
        assert _ask(other, f"destroy {key.id}") == "destroyed"
    with pytest.raises(NoSuchKey):
        softhsm_token.sign(key.id, SCHEME, b"m")
    _verify(other_key, b"m", softhsm_token.sign(other_key.id, SCHEME, b"m"))


# Lost and found


def test_a_store_that_comes_back_works_at_the_first_attempt(
    softhsm: SoftHsmStore, softhsm_token: Pkcs11Token
) -> None:
    key = softhsm_token.generate(ALGORITHM, "web")
    for _ in range(3):
        _verify(key, b"m", softhsm_token.sign(key.id, SCHEME, b"m"))
        with _away(softhsm):
            for _attempt in range(3):
                with pytest.raises(TokenUnavailable):
                    softhsm_token.sign(key.id, SCHEME, b"m")
        _verify(key, b"m", softhsm_token.sign(key.id, SCHEME, b"m"))


@pytest.mark.parametrize("operation", ["sign with a key not used before", "list", "generate"])
def test_while_the_store_is_gone_every_operation_says_so(
    softhsm: SoftHsmStore, softhsm_token: Pkcs11Token, operation: str
) -> None:
    key = softhsm_token.generate(ALGORITHM, "web")
    work = {
        "sign with a key not used before": lambda: softhsm_token.sign(key.id, SCHEME, b"m"),
        "list": softhsm_token.keys,
        "generate": lambda: softhsm_token.generate(ALGORITHM, "new"),
    }[operation]
    with _away(softhsm), pytest.raises(TokenUnavailable):
        work()
    work()
    assert key in list(softhsm_token.keys())


def test_a_key_is_not_taken_for_destroyed_because_the_store_is_gone(
    softhsm: SoftHsmStore, softhsm_token: Pkcs11Token
) -> None:
    key = softhsm_token.generate(ALGORITHM, "web")
    with _away(softhsm), pytest.raises(TokenUnavailable):
        softhsm_token.destroy(key.id)
    softhsm_token.destroy(key.id)
    assert softhsm_token.keys() == []


def test_threads_that_lose_the_token_together_all_get_it_back(
    softhsm: SoftHsmStore, softhsm_token: Pkcs11Token
) -> None:
    key = softhsm_token.generate(ALGORITHM, "web")
    stop, lost = threading.Event(), threading.Semaphore(0)
    signed = [0] * 8

    def work(number: int) -> None:
        while not stop.is_set():
            message = os.urandom(8)
            try:
                _verify(key, message, softhsm_token.sign(key.id, SCHEME, message))
                signed[number] += 1
            except TokenUnavailable:
                lost.release()

    with ThreadPoolExecutor(8) as threads:
        working = [threads.submit(work, number) for number in range(8)]
        try:
            for _ in range(3):
                eventually(lambda: min(signed) > 5, "everyone signs")
                with _away(softhsm):
                    for _failure in range(16):
                        assert lost.acquire(timeout=BOUND_S)
                signed[:] = [0] * 8
            eventually(lambda: min(signed) > 5, "everyone signs again")
        finally:
            stop.set()
    for thread in working:
        thread.result()


# Starting


def _login(store: SoftHsmStore) -> Login:
    return Login(PinFile(store.directory / "mesh.pin"))


@pytest.fixture
def _few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.token.pkcs11._START_PAUSE_S", 0.0)


@pytest.mark.usefixtures("_few_tries")
def test_a_token_of_another_label_is_named_with_those_there_are(softhsm: SoftHsmStore) -> None:
    with pytest.raises(TokenUnavailable, match=r"0 tokens labelled 'other'.*it has: mesh"):
        Pkcs11Token.open(MODULE, TokenSelector(label="other"), _login(softhsm), SOFTHSM2)


@pytest.mark.usefixtures("_few_tries")
def test_two_tokens_of_one_label_are_one_too_many(softhsm: SoftHsmStore, short_dir: Path) -> None:
    second = SoftHsmStore.create(short_dir / "second")
    second.initialise("mesh")
    (token,) = second.tokens.iterdir()
    token.rename(softhsm.tokens / token.name)
    with pytest.raises(TokenUnavailable, match="2 tokens labelled 'mesh', one is needed"):
        Pkcs11Token.open(MODULE, MESH, _login(softhsm), SOFTHSM2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; set token.module"),
        (b"no library", "cannot be loaded"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_a_wrong_setting(
    softhsm: SoftHsmStore, short_dir: Path, content: bytes | None, message: str
) -> None:
    module = short_dir / "module.so"
    if content is not None:
        module.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        Pkcs11Token.open(module, MESH, _login(softhsm), SOFTHSM2)


def test_a_library_that_is_no_pkcs11_module_is_a_wrong_setting(softhsm: SoftHsmStore) -> None:
    library = next(Path("/usr/lib").glob("*-linux-gnu/libz.so.1"))
    with pytest.raises(ConfigurationError, match="is not a PKCS#11 module"):
        Pkcs11Token.open(library, MESH, _login(softhsm), SOFTHSM2)


# Other people's keys


def test_foreign_keys_on_the_token_stand_in_nobodys_way(softhsm_token: Pkcs11Token) -> None:
    def make_rsa(session: pkcs11.Session, label: str) -> None:
        session.generate_keypair(KeyType.RSA, 1024, id=b"rsa", label=label, store=True)
        session.generate_key(KeyType.AES, 256, id=b"aes", label=label, store=True)

    key = softhsm_token.generate(ALGORITHM, "web")
    softhsm_token._sessions.use("a test", lambda state: make_rsa(state.session, "somebody's"))
    assert softhsm_token.keys() == [key]
    with pytest.raises(TokenError):
        softhsm_token.sign(KeyId(b"rsa"), SCHEME, b"m")
    _verify(key, b"m", softhsm_token.sign(key.id, SCHEME, b"m"))


def test_half_a_key_has_a_label_and_can_be_destroyed(softhsm_token: Pkcs11Token) -> None:
    lonely = softhsm_token.generate(ALGORITHM, "lonely")
    template = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: lonely.id.value}
    softhsm_token._sessions.use(
        "a test", lambda state: [half.destroy() for half in [*state.session.get_objects(template)]]
    )
    assert softhsm_token.keys() == []
    assert softhsm_token.labels() == {lonely.id: "lonely"}
    softhsm_token.destroy(lonely.id)
    assert _objects(softhsm_token) == []


def test_a_label_in_another_encoding_stands_in_nobodys_way(softhsm_token: Pkcs11Token) -> None:
    key = softhsm_token.generate(ALGORITHM, "web")
    foreign = softhsm_token.generate(ALGORITHM, "foreign")
    template = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: foreign.id.value}

    def rename(session: pkcs11.Session) -> None:
        function = library._functions
        (private,) = session.get_objects(template)
        text = ctypes.create_string_buffer(b"\xff\xfe", 2)
        attribute = (ctypes.c_ulong * 3)(3, ctypes.addressof(text), 2)  # CKA_LABEL
        call = ctypes.CFUNCTYPE(
            ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong
        )
        table = ctypes.cast(ctypes.addressof(function), ctypes.POINTER(ctypes.c_void_p))
        # A version of two bytes, padded, then the functions: C_SetAttributeValue is the 26th.
        set_attribute_value = call(table[1 + 25])
        code = set_attribute_value(session.handle, private.handle, ctypes.addressof(attribute), 1)
        assert code == 0

    library = softhsm_token._sessions._library
    softhsm_token._sessions.use("a test", lambda state: rename(state.session))
    listed = softhsm_token.keys()
    labels = {each.id: each.label for each in listed}
    assert labels == {key.id: "web", foreign.id: "(not UTF-8)"}


def test_a_private_key_without_its_public_half_is_not_listed(softhsm_token: Pkcs11Token) -> None:
    key, lonely = (
        softhsm_token.generate(ALGORITHM, "web"),
        softhsm_token.generate(ALGORITHM, "lonely"),
    )
    template = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: lonely.id.value}
    softhsm_token._sessions.use(
        "a test",
        lambda state: [half.destroy() for half in list(state.session.get_objects(template))],
    )
    assert softhsm_token.keys() == [key]
