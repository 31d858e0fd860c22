"""Assembles what knows callers, and what they may have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from sidecar.app.clock import wall
from sidecar.app.parts import Parts
from sidecar.callers.callers import SocketCallers
from sidecar.callers.credentials import Credentials
from sidecar.callers.forwarded import Forwarded
from sidecar.callers.policy import Bearers, NoBearers, Rule, RulePolicy
from sidecar.config.callers import CallerSettings
from sidecar.config.settings import Settings
from sidecar.errors import ConfigurationError

_NO_RULES = """nobody may use the sockets: say who may, as in
[[caller]]
name = "envoy"
uid = 101                                   # the user that Envoy runs as
identities = ["{identity}"]
purposes = ["tls13-server", "tls13-client"]"""


class KnownCallers:
    """Who is let in by the servers of this process, directly and behind proxies.

    `Reloadable`: other rules hold at once, also for calls that go on.
    """

    takes = frozenset({"caller"})

    def __init__(self, parts: Parts, bearers: Bearers) -> None:
        self.forwarded = Forwarded()
        self._bearers = bearers
        self._began = wall()
        self._policy = self._policy_of(parts.settings.callers)
        self.callers = SocketCallers(self._policy, self.forwarded, parts.audit)

    def prepare(self, settings: Settings) -> Callable[[], None]:
        require_rules(settings)
        policy = self._policy_of(settings.callers)
        return lambda: self._change(policy)

    def door(self, credentials: Credentials) -> None:
        """Raises `CallerRefused` for a user of whom no rule speaks."""
        self._policy.require_user(credentials.uid)

    def _change(self, policy: RulePolicy) -> None:
        self._policy = policy
        self.callers.policy = policy

    def _policy_of(self, settings: Sequence[CallerSettings]) -> RulePolicy:
        rules = [rule_of(each, self._began) for each in settings]
        return RulePolicy(rules, self._bearers)


async def start_callers(parts: Parts) -> tuple[KnownCallers, list[asyncio.Task[None]]]:
    """Knows them until the parts are taken down; the tasks end only with a bug.

    Raises:
        ConfigurationError: a file that tokens are verified with is not to be used.
    """
    running = []
    bearers: Bearers = NoBearers()
    if bearer := parts.settings.bearer:
        # Only where tokens are verified: this loads the library for them.
        from sidecar.callers.bearer import Wanted
        from sidecar.callers.bearer_files import BearerTokens

        wanted = Wanted(
            bearer.audience, bearer.issuer, bearer.longest, needs_id=bearer.revoked is not None
        )
        bearers = tokens = BearerTokens(bearer.jwks, bearer.revoked, wanted, wall)
        await tokens.begin()
        running.append(parts.in_background(asyncio.create_task(tokens.run())))
    known = KnownCallers(parts, bearers)
    parts.reload.register(known)
    parts.stack.callback(known.callers.close)
    running.append(parts.in_background(asyncio.create_task(known.callers.run())))
    return known, running


def require_rules(settings: Settings) -> None:
    """Raises `ConfigurationError` where none is there, and shows one."""
    if not settings.callers:
        raise ConfigurationError(_NO_RULES.format(identity=next(iter(settings.identities))))


def rule_of(settings: CallerSettings, began: datetime) -> Rule:
    """The rule, for a sidecar that was started at `began`."""
    within = settings.started_within
    return Rule(
        name=settings.name,
        uid=settings.uid,
        allows=dict.fromkeys(settings.identities, settings.purposes),
        gid=settings.gid,
        executables=settings.executables,
        pod=settings.pod,
        cgroup=settings.cgroup,
        label=settings.label,
        started_by=None if within is None else began + within,
        bearer_subject=settings.bearer_subject,
    )
