"""Everything that the doctor looks at, in its order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from sidecar.config.settings import Settings, TokenSettings
from sidecar.doctor.authorities import examine_authority
from sidecar.doctor.bearer import examine_bearer
from sidecar.doctor.deny_list import examine_deny_list
from sidecar.doctor.finding import Finding
from sidecar.doctor.identities import examine_identity, examine_trust
from sidecar.doctor.sections import sections
from sidecar.doctor.token import examine_token
from sidecar.token.pkcs11 import Pkcs11Token


def examine(
    settings: Settings, open_token: Callable[[TokenSettings], Pkcs11Token], now: datetime
) -> Iterator[Finding]:
    """Yields what it finds, as it finds it. Blocks.

    Makes a trial key of each kind that the settings ask for, and destroys it. Asks nobody
    over a network.
    """
    yield from examine_token(settings, open_token)
    for section, identity in sections(settings):
        yield from examine_identity(section, identity, now)
    for trust in settings.trust:
        yield examine_trust(settings, trust, now)
    for authority in settings.authorities:
        yield from examine_authority(authority)
    if settings.bearer:
        yield examine_bearer(settings.bearer, now)
    if settings.deny_list:
        yield examine_deny_list(settings.deny_list, now)
