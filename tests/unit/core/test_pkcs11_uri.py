"""PKCS#11 URIs: RFC 7512, and that no PIN leaves them by accident."""

from __future__ import annotations

import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.core.pkcs11_uri import Pkcs11Uri
from sidecar.core.token_selector import TokenSelector


def test_a_uri_chooses_a_token_a_module_and_a_pin_file() -> None:
    uri = Pkcs11Uri.parse(
        "pkcs11:token=The%20mesh;manufacturer=Snake%20Oil,%20Inc.;model=1.0;serial=;slot-id=17"
        "?module-path=/usr/lib/libhsm.so&pin-source=file:/etc/meshkey/pin"
    )
    assert uri.selector == TokenSelector("The mesh", "", "Snake Oil, Inc.", "1.0", 17)
    assert uri.module_path == Path("/usr/lib/libhsm.so")
    assert uri.pin_source == Path("/etc/meshkey/pin")
    assert uri.pin_value is None


def test_what_is_not_there_is_none() -> None:
    uri = Pkcs11Uri.parse("pkcs11:serial=0a1b")
    assert uri == Pkcs11Uri(TokenSelector(serial="0a1b"))
    assert Pkcs11Uri.parse("PKCS11:serial=0a1b?") == uri


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("/etc/pin", "/etc/pin"),
        ("file:/etc/pin", "/etc/pin"),
        ("file:///etc/pin", "/etc/pin"),
        ("FILE://localhost/etc/pin", "/etc/pin"),
        ("file:/etc/the%20pin", "/etc/the pin"),
        ("%2fetc%2Fpin", "/etc/pin"),
    ],
)
def test_a_pin_source_is_a_file(source: str, path: str) -> None:
    assert Pkcs11Uri.parse(f"pkcs11:token=a?pin-source={source}").pin_source == Path(path)


def test_vendors_attributes_are_left_out() -> None:
    uri = Pkcs11Uri.parse("pkcs11:x-a=1;token=a;x-b=?x-a=1&x-a=2&module-path=/m")
    assert uri == Pkcs11Uri(TokenSelector(label="a"), module_path=Path("/m"))


def test_reserved_characters_of_the_rfc_need_no_encoding() -> None:
    uri = Pkcs11Uri.parse("pkcs11:token=:[]@!$'()*+,=&-._~?pin-value=:[]@!$'()*+,=/?|")
    assert uri.selector.label == ":[]@!$'()*+,=&-._~"
    assert uri.pin_value == ":[]@!$'()*+,=/?|"


def test_a_percent_sign_is_decoded_once() -> None:
    assert Pkcs11Uri.parse("pkcs11:token=a%2541").selector.label == "a%41"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'begins with "pkcs11:"'),
        ("token=a", 'begins with "pkcs11:"'),
        ("pkcs11", 'begins with "pkcs11:"'),
        (" pkcs11:token=a", 'begins with "pkcs11:"'),
        ("pkcs11:", "name the token"),
        ("pkcs11:x-a=1", "name the token"),
        ("pkcs11:?module-path=/m", "name the token"),
        ("pkcs11:token", "each attribute is name=value, with ';'"),
        ("pkcs11:token=a;", "each attribute is name=value, with ';'"),
        ("pkcs11:;token=a", "each attribute is name=value"),
        ("pkcs11:=a", "each attribute is name=value"),
        ("pkcs11:to%6ben=a", "each attribute is name=value"),
        ("pkcs11:token=a?pin-source", "each attribute is name=value, with '&'"),
        ("pkcs11:token=a?module-path=/m&", "each attribute is name=value, with '&'"),
        ("pkcs11:token=a;token=a", "token is there twice"),
        ("pkcs11:token=a?module-path=/m&module-path=/m", "module-path is there twice"),
        ("pkcs11:token=a b", "attribute token: percent-encode"),
        ("pkcs11:token=a/b", "attribute token: percent-encode"),
        ("pkcs11:token=a|b", "attribute token: percent-encode"),
        ("pkcs11:token=ä", "attribute token: percent-encode"),
        ("pkcs11:token=%2", "attribute token: percent-encode"),
        ("pkcs11:token=%gg", "attribute token: percent-encode"),
        ("pkcs11:token=a#b", "attribute token: percent-encode"),
        ("pkcs11:token=a\n", "attribute token: percent-encode"),
        ("pkcs11:token=%ff", "token is not UTF-8"),
        ("pkcs11:x-a= ", "attribute x-a: percent-encode"),
        ("pkcs11:TOKEN=a", "attribute TOKEN is not known here; known: manufacturer, model"),
        ("pkcs11:label=a", "attribute label is not known here"),
        ("pkcs11:module-path=/m", "attribute module-path is not known here"),
        ("pkcs11:token=a?token=a", "attribute token is not known here; known: module-path"),
        ("pkcs11:token=a;pin-value=1", "attribute pin-value is not known here"),
        ("pkcs11:token=a;object=k", "object is not for here: meshkey names its keys itself"),
        ("pkcs11:token=a;id=%01", "id is not for here"),
        ("pkcs11:token=a;type=private", "type is not for here"),
        ("pkcs11:token=a;library-version=1", "library-version is not for here: the module is"),
        ("pkcs11:token=a;slot-description=a", "a slot is chosen by slot-id"),
        ("pkcs11:token=a?module-name=softhsm", "module-name is not for here: use module-path"),
        ("pkcs11:slot-id=", "slot-id is a decimal number"),
        ("pkcs11:slot-id=-1", "slot-id is a decimal number"),
        ("pkcs11:slot-id=0x1", "slot-id is a decimal number"),
        ("pkcs11:slot-id=%31", "slot-id is a decimal number"),
        (f"pkcs11:slot-id={2**64}", "slot-id is a decimal number"),
        ("pkcs11:slot-id=" + "9" * 5000, "slot-id is a decimal number"),
        ("pkcs11:token=a?module-path=m.so", "module-path: an absolute path"),
        ("pkcs11:token=a?module-path=", "module-path: an absolute path"),
        ("pkcs11:token=a?module-path=/m%00", "module-path: an absolute path"),
        ("pkcs11:token=a?pin-source=pin", "pin-source: an absolute path"),
        ("pkcs11:token=a?pin-source=file:pin", "pin-source: an absolute path"),
        ("pkcs11:token=a?pin-source=https:/x", "pin-source: an absolute path"),
        ("pkcs11:token=a?pin-source=file://host/pin", "must be on this machine"),
        ("pkcs11:token=a?pin-source=|/bin/pin", "no program is started for a PIN"),
        ("pkcs11:token=a?pin-source=%7C/bin/pin", "no program is started for a PIN"),
        ("pkcs11:token=a?pin-value=", "pin-value is empty"),
        ("pkcs11:token=a?pin-value=%00", "pin-value is empty or has a zero byte"),
        ("pkcs11:token=a?pin-value=%ff", "pin-value is not UTF-8"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        Pkcs11Uri.parse(text)
    assert "\n" not in str(refused.value)


def test_the_longest_slot_id_is_a_slot_id() -> None:
    assert Pkcs11Uri.parse(f"pkcs11:slot-id={2**64 - 1}").selector.slot_id == 2**64 - 1


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:token=a?pin-value=zq7x&zq7y=1",
        "pkcs11:token=a?pin-value=zq7x&zq7y",
        "pkcs11:token=a?pin-value=zq7x zq7y",
        "pkcs11:token=a?pin-value=zq7x%ff",
        "pkcs11:token=a?PIN-VALUE=zq7x&zq7y=1",
        "pkcs11:token=a;pin-value=zq7x;zq7y=1",
        "pkcs11:token=a;zq7x=1?pin-value=b",
        "zq7x?pin-value=zq7x",
    ],
)
def test_no_piece_of_a_misplaced_pin_is_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        Pkcs11Uri.parse(text)
    assert "zq7" not in "".join(traceback.format_exception_only(refused.value))


def test_no_text_form_shows_the_pin() -> None:
    uri = Pkcs11Uri.parse("pkcs11:token=a?pin-value=correct-horse")
    assert uri.pin_value == "correct-horse"
    assert "correct" not in f"{uri} {uri!r} {[uri]}"


_text = st.text(st.characters(exclude_categories=["Cs"]))
_line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
_path = _line.map(lambda name: f"/{name}").filter(lambda path: not path.startswith("//"))


@given(
    selector=st.builds(
        TokenSelector,
        label=st.none() | _text,
        serial=st.none() | _text,
        manufacturer=st.none() | _text,
        model=st.none() | _text,
        slot_id=st.integers(0, 2**64 - 1),
    ),
    module_path=_path,
    pin_source=_path,
    pin_value=_line,
    safe=st.sampled_from(["", ":[]@!$'()*+,="]),
)
def test_what_is_written_as_the_rfc_says_is_read_back(
    selector: TokenSelector, module_path: str, pin_source: str, pin_value: str, safe: str
) -> None:
    path = {
        "token": selector.label,
        "serial": selector.serial,
        "manufacturer": selector.manufacturer,
        "model": selector.model,
    }
    query = {"module-path": module_path, "pin-source": pin_source, "pin-value": pin_value}
    given_texts = [f"{n}={quote(v, safe)}" for n, v in path.items() if v is not None]
    text = ";".join([*given_texts, f"slot-id={selector.slot_id}"])
    text += "?" + "&".join(f"{n}={quote(v, safe + '/?|')}" for n, v in query.items())
    assert Pkcs11Uri.parse(f"pkcs11:{text}") == Pkcs11Uri(
        selector, Path(module_path), Path(pin_source), pin_value
    )


_WORDS = (
    "token=a slot-id=1 ; ? & = % %00 %ff pin-value= x-a=b pin-source= file: // /a id=1 | \ud800"
)
_hostile = st.one_of(
    st.text(),
    st.text("pkcs11:token=slot-id;&?%0aFf|/x", max_size=80),
    st.lists(st.sampled_from(_WORDS.split()), max_size=12).map("".join),
)


def _parsed(text: str) -> Pkcs11Uri | ValueError:
    try:
        return Pkcs11Uri.parse(text)
    except ValueError as error:
        return error


@given(text=_hostile | _hostile.map(lambda text: f"pkcs11:{text}"))
def test_hostile_text_is_a_uri_or_a_value_error(text: str) -> None:
    parsed = _parsed(text)
    if isinstance(parsed, Pkcs11Uri):
        assert parsed.module_path is None or parsed.module_path.is_absolute()
        assert parsed.pin_source is None or parsed.pin_source.is_absolute()
    assert "\n" not in str(parsed)


_PIECES = ["&", ";", "=", "?", "%", "%41", " ", "ä", "pin-value=", "token=", "x-a="]


@given(
    before=st.sampled_from(["token=a?", "token=a;", "", "token=a?x=1&", "token=a?module-path=m&"]),
    pin=st.lists(st.sampled_from(["QQzq", *_PIECES]), min_size=1, max_size=8).map("".join),
)
def test_no_message_shows_a_piece_of_a_pin_however_it_is_written(before: str, pin: str) -> None:
    assume("QQzq" in pin)
    parsed = _parsed(f"pkcs11:{before}pin-value={pin}")
    assert "QQzq" not in f"{parsed} {parsed!r}"
