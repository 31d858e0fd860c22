"""What a token says of itself, without the padding of CK_TOKEN_INFO."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sidecar.core.token_selector import TokenDescription
from sidecar.token.library import describe


@pytest.mark.parametrize("serial", [b"0a1b", b"0a1b  ", b"0a1b\0\0", b"0a1b \0"])
def test_a_serial_is_its_text(serial: bytes) -> None:
    token = SimpleNamespace(
        label="mesh",
        serial=serial,
        manufacturer_id="maker",
        model="one",
        slot=SimpleNamespace(slot_id=7),
    )
    assert describe(token) == TokenDescription("mesh", "0a1b", "maker", "one", 7)
    token.serial = b"\xff"
    assert describe(token).serial == "\N{REPLACEMENT CHARACTER}"
