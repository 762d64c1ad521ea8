"""The written configuration, as the servers' own programs read it."""

import stat
from pathlib import Path

from tests.mail.conftest import World
from tests.mail.servers import run


def test_postfix_and_dovecot_accept_the_configuration(world: World) -> None:
    world.servers.wait_until_queue_is_empty()  # the check complains about a file that disappears while it is listed
    assert run(["postfix", "-c", str(world.servers.postfix_directory), "check"]) == ""
    settings = run(["postconf", "-c", str(world.servers.postfix_directory), "-n"])
    assert "warning" not in settings
    assert "fatal" not in run(["postconf", "-c", str(world.servers.postfix_directory), "-M"])
    dovecot = run(["doveconf", "-n", "-c", str(world.servers.dovecot_directory / "dovecot.conf")])
    assert "Warning" not in dovecot
    assert "ssl = required" in dovecot
    assert "auth_cache_size" not in dovecot


def test_secrets_are_in_files_of_their_owner_only(world: World) -> None:
    for directory in (world.servers.dovecot_directory, world.servers.postfix_directory):
        for file in directory.iterdir():
            if not file.is_file():
                continue
            readable = bool(stat.S_IMODE(file.stat().st_mode) & 0o077)
            if world.password in file.read_text():
                assert not readable, file
    queries = list(Path(world.servers.postfix_directory).glob("postroom-*.cf"))
    assert len(queries) == 7
    assert {stat.S_IMODE(file.stat().st_mode) for file in queries} == {0o600}
