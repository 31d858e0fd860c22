"""A process that is killed while it ends an identity: what it began is never half undone.

It is killed by SIGKILL before each of the calls that change something on the disk or on the token,
and after the last. A process that starts then must find either an identity that nobody has ended
yet, whole, or one that is dead, of which nothing is left.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sidecar.admin.client import CommandFailed
from tests.fixtures.configurations import sections, serve
from tests.fixtures.mesh import Mesh, identity_status, spiffe_id, wait_for_generation
from tests.fixtures.process import MeshkeyProcess
from tests.fixtures.toml import toml
from tests.fixtures.waiting import eventually
from tests.integration.test_endings import keys_on_token

_STATE, _ENDED = "KILLED_STATE", "KILLED_BEFORE"
# From the moment at which the end begins each step is counted, and before one of them it is over.
_KILLED = f"""
import asyncio, os, signal, sys, threading
from sidecar.cli import main
from sidecar.identity import ending, identity, revoking, saved_leases
from sidecar.token import holdings, search

state, last = os.environ["{_STATE}"], int(os.environ["{_ENDED}"])
steps = None
notes = threading.local()

def step():
    global steps
    if steps is not None and not hasattr(notes, "written"):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

def stepping(call, concerns=lambda *_: True):
    def stepped(*arguments, **options):
        if concerns(*arguments):
            step()
        return call(*arguments, **options)
    return stepped

def noting(save):
    # How far a lease has run is noted all the time: that is no step of an end.
    def noted(*arguments):
        notes.written = True
        try:
            return save(*arguments)
        finally:
            del notes.written
    return noted

saved_leases.SavedLeases.save = noting(saved_leases.SavedLeases.save)

def of_state(path, *_):
    return str(path).startswith(state)

def descriptor_of_state(descriptor, *_):
    return os.readlink(f"/proc/self/fd/{{descriptor}}").startswith(state)

for name in ("open", "replace", "unlink"):
    setattr(os, name, stepping(getattr(os, name), of_state))
for name in ("write", "fsync"):
    setattr(os, name, stepping(getattr(os, name), descriptor_of_state))

def destroy_halves(session, key_id):
    halves = search.find_halves(session, key_id)
    for half in halves:
        step()
        half.destroy()
    step()
    return len(halves)

holdings.destroy_halves = destroy_halves

async def never(*_):
    await asyncio.Event().wait()

def begin(call):
    def begun(*arguments):
        global steps
        steps = 0
        # Another key, and what is saved for it, would be other steps.
        identity.Identity._renew_or_take_up = never
        return call(*arguments)
    return begun

ending.Ending.stop = begin(ending.Ending.stop)
revoking.Revoking.revoke = begin(revoking.Revoking.revoke)
main()
"""
# Tombstone: unlink, open, write, sync, rename; its directory: open, sync. Two halves of the key,
# and after them. Saved certificate, and lease: unlink; the directory: open, sync. Revoking removes
# neither.
_RENAME, _DEPROVISION, _REVOKE = 5, 16, 10


class _Life:
    """One sidecar with one state, killed or not."""

    def __init__(self, mesh: Mesh, name: str) -> None:
        self.mesh = mesh
        self.name = name
        self.state = mesh.directory / f"{name}-state"
        identity = {
            "spiffe_id": spiffe_id(name),
            "trust_bundle": mesh.root_file,
            "state": self.state,
            "orphan_grace": "1h",
        }
        self.settings = sections(mesh, name, identity=identity)

    def killed_before(self, step: int) -> MeshkeyProcess:
        """A process that is killed before so manieth a step of what ends it."""
        config = self.mesh.directory / f"{self.name}.toml"
        config.write_text(toml(self.settings), encoding="utf-8")
        environment = {
            **self.mesh.store(self.name).environment,
            _STATE: str(self.state),
            _ENDED: str(step),
        }
        process = MeshkeyProcess(config, environment, program=(sys.executable, "-c", _KILLED))
        self.mesh.processes.callback(process.kill)
        process.wait_until_ready()
        wait_for_generation(process, 1)
        eventually(lambda: len(_kept(self.state)) == 2, "certificate and lease are saved")
        return process

    def again(self) -> MeshkeyProcess:
        return serve(self.mesh, self.settings, self.name)


def _marks(state: Path, kind: str) -> list[str]:
    return [path.name for path in state.glob(f"*.{kind}")]


def _kept(state: Path) -> list[str]:
    return [name for name in ("default.json", "default.lease") if (state / name).exists()]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", range(1, _DEPROVISION + 2))
def test_a_deprovisioning_that_is_killed_at_any_step(running_mesh: Mesh, step: int) -> None:
    life = _Life(running_mesh, f"ends-{step}")
    process = life.killed_before(step)
    before = identity_status(process)
    with process.admin() as client:
        if step <= _DEPROVISION:
            with pytest.raises(CommandFailed):
                client.deprovision("default")
            process.wait()
        else:
            assert not client.deprovision("default").problems
            process.kill()
    is_dead = _marks(life.state, "deprovisioned") == ["default.deprovisioned"]
    assert is_dead == (step > _RENAME)
    left = keys_on_token(process)
    if not is_dead:
        assert left == {before.key_id.hex()}, "no key is destroyed before the tombstone is there"
    again = life.again()
    if is_dead:
        eventually(lambda: keys_on_token(again) == set(), "what was left is destroyed")
        eventually(lambda: not _kept(life.state), "what was kept for it is removed")
        after = identity_status(again)
        assert (after.health, after.key_id) == ("deprovisioned", b"")
    else:
        after = wait_for_generation(again, 1)
        assert (after.key_id, after.health) == (before.key_id, "valid")
    again.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", range(_RENAME, _REVOKE + 2))
def test_a_revocation_that_is_killed_at_any_step(running_mesh: Mesh, step: int) -> None:
    life = _Life(running_mesh, f"revokes-{step}")
    process = life.killed_before(step)
    before = identity_status(process)
    with process.admin() as client:
        if step <= _REVOKE:
            with pytest.raises(CommandFailed):
                client.revoke(before.key_id)
            process.wait()
        else:
            assert not client.revoke(before.key_id).problems
            process.kill()
    is_revoked = _marks(life.state, "revoked") == [f"{before.key_id.hex()}.revoked"]
    assert is_revoked == (step > _RENAME)
    again = life.again()
    after = wait_for_generation(again, 1)
    assert (after.key_id != before.key_id) == is_revoked
    if is_revoked:
        eventually(lambda: before.key_id.hex() not in keys_on_token(again), "it is destroyed")
    again.stop()
