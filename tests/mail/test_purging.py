"""The script that removes the mail of purged mailboxes."""

import os
import subprocess
from uuid import uuid4

from tests.mail.conftest import World


def purge(world: World) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join(filter(None, (str(world.psql_directory or ""), os.environ["PATH"])))
    return subprocess.run(
        [world.servers.dovecot_directory / "postroom-purge-mail"],
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_script_removes_the_mail_of_purged_mailboxes_only(world: World) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("purged-mail.com")
    ann, bob, cid = (tenant.mailbox(domain, name) for name in ("ann", "bob", "cid"))
    for mailbox in (ann, bob, cid):
        world.mail.send(mailbox["email"], "hello")
        world.mail.wait_for(mailbox["email"], "hello")
    unknown = world.servers.mail_directory / str(uuid4())
    unknown.mkdir()
    tenant.delete(ann)
    world.postroom.advance("P31D")
    tenant.delete(bob)
    completed = purge(world)
    assert (completed.returncode, completed.stderr) == (0, "")
    assert ann["id"] in completed.stdout.split()
    kept = {path.name for path in world.servers.mail_directory.iterdir()}
    assert ann["id"] not in kept
    assert {bob["id"], cid["id"], unknown.name} <= kept
    assert purge(world).stdout == ""
    tenant.restore(bob)
    assert world.mail.subjects(bob["email"]) == ["hello"]


def test_the_units_are_valid(world: World) -> None:
    for suffix in ("service", "timer"):
        unit = (world.servers.dovecot_directory / f"postroom-purge-mail.{suffix}").read_text()
        sections = [line for line in unit.splitlines() if line.startswith("[")]
        assert sections[0] == "[Unit]"
    assert (
        f"ExecStart={world.servers.dovecot_directory}/postroom-purge-mail"
        in (world.servers.dovecot_directory / "postroom-purge-mail.service").read_text()
    )
