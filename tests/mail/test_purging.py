"""The script that removes the mail of purged mailboxes."""

import os
import re
import subprocess
from pathlib import Path
from uuid import uuid4

from tests.mail.conftest import World


def purge(
    world: World, script: Path | None = None, directory: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join(filter(None, (str(world.psql_directory or ""), os.environ["PATH"])))
    return subprocess.run(
        [script or world.servers.dovecot_directory / "postroom-purge-mail"],
        env={"PATH": path},
        cwd=directory,
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


def test_a_home_on_another_disk_is_removed_with_its_link_and_a_link_to_anything_else_is_reported(
    world: World, tmp_path: Path
) -> None:
    tenant = world.postroom.tenant
    domain = tenant.domain("moved-mail.com")
    moved, foreign, missing, last = (tenant.mailbox(domain, name) for name in ("ann", "bob", "cid", "dan"))
    homes = {mailbox["id"]: world.servers.mail_directory / mailbox["id"] for mailbox in (moved, foreign, missing, last)}
    targets = {moved["id"]: tmp_path / moved["id"], foreign["id"]: tmp_path / "precious"}
    for target in targets.values():
        target.mkdir()
        (target / "mail").write_text("mail")
    targets[missing["id"]] = tmp_path / missing["id"]  # of a disk that is not mounted
    for each, target in targets.items():
        homes[each].symlink_to(target)
    homes[last["id"]].mkdir()
    for mailbox in (moved, foreign, missing, last):
        tenant.delete(mailbox)
    world.postroom.advance("P31D")
    completed = purge(world)
    assert completed.returncode == 1
    assert {moved["id"], last["id"]} <= {*completed.stdout.split()}
    for each in (foreign, missing):
        link, target = homes[each["id"]], targets[each["id"]]
        expected = f"{link}: not removed: it links to {target}, which is no directory of this name"
        assert expected in completed.stderr.splitlines()
        assert link.is_symlink()
    assert not os.path.lexists(homes[moved["id"]])
    assert not homes[last["id"]].exists()
    assert {path.name for path in tmp_path.iterdir()} == {"precious"}
    assert (tmp_path / "precious" / "mail").exists()
    for each in (foreign, missing):
        homes[each["id"]].unlink()
    assert purge(world).returncode == 0


def test_an_id_is_not_expanded_to_the_names_of_files(world: World, tmp_path: Path) -> None:
    written = (world.servers.dovecot_directory / "postroom-purge-mail").read_text()
    text, changed = re.subn(r"(?m)^purged=.*$", "purged='*'", written)
    text, moved = re.subn(r"(?m)^mail_directory=.*$", f"mail_directory={tmp_path}/mail", text)
    assert (changed, moved) == (1, 1)
    script, home = tmp_path / "script", tmp_path / "mail" / str(uuid4())
    script.write_text(text)
    script.chmod(0o755)
    home.mkdir(parents=True)
    completed = purge(world, script, home.parent)
    assert (completed.returncode, completed.stdout, completed.stderr) == (1, "", "unexpected id: *\n")
    assert home.is_dir()


def test_the_units_are_valid(world: World) -> None:
    for suffix in ("service", "timer"):
        unit = (world.servers.dovecot_directory / f"postroom-purge-mail.{suffix}").read_text()
        sections = [line for line in unit.splitlines() if line.startswith("[")]
        assert sections[0] == "[Unit]"
    assert (
        f"ExecStart={world.servers.dovecot_directory}/postroom-purge-mail"
        in (world.servers.dovecot_directory / "postroom-purge-mail.service").read_text()
    )
