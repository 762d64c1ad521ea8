"""A Dovecot on the database of a row, with the configuration of `postroom mail-config dovecot`, and logins to it."""

import asyncio
import os
import secrets
import shutil
from time import monotonic

from bench.engine import Engine
from bench.harness import Harness
from bench.process import POSTROOM, TIMEOUT_SECONDS, clean_environment
from bench.tls import issue
from tools.ports import free_port

PROGRAM = "/usr/sbin/dovecot"
MISSING = (
    "Dovecot is missing: on Debian 12, run apt-get install dovecot-core dovecot-imapd dovecot-sqlite dovecot-pgsql, or"
    " `make test-mail`, which installs it"
)
SETTINGS = """
protocols = imap
base_dir = {directory}/run
state_dir = {directory}/run
log_path = {directory}/log
mail_max_userip_connections = 0
service imap-login {{
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


class LoginFailed(Exception):
    """A login was refused, or not answered. The text has the server's response."""


class Dovecot:
    """A running Dovecot. Raises RuntimeError if it can't run here."""

    def __init__(self, port: int) -> None:
        self._port = port

    @classmethod
    async def start(cls, harness: Harness, url: str) -> "Dovecot":
        """Start it on the database of a URL, until the row ends."""
        if shutil.which(PROGRAM) is None:
            raise RuntimeError(MISSING)
        if os.geteuid() != 0:
            raise RuntimeError("Dovecot starts as root only: run this row as root")
        directory = harness.directory / f"dovecot-{secrets.token_hex(4)}"
        (directory / "mail").mkdir(parents=True)
        for each in (harness.directory, directory):
            each.chmod(0o755)
        shutil.chown(directory / "mail", "nobody", "nogroup")
        certificates = issue(directory)
        environment = clean_environment() | {"POSTROOM_DATABASE_URL": url}
        if harness.engine is Engine.POSTGRESQL:
            environment["POSTROOM_MAIL_PASSWORD"] = secrets.token_hex(16)
            await _run(environment, "mail-role", "create")
        await _run(
            environment,
            *("mail-config", "dovecot", f"--output={directory}", "--hostname=mail.example.net"),
            *(f"--tls-cert={certificates.cert}", f"--tls-key={certificates.key}"),
            *(f"--mail-directory={directory}/mail", "--mail-user=nobody", "--mail-group=nogroup"),
            f"--queue-directory={directory}",
        )
        (directory / "private").mkdir()
        port = free_port()
        (directory / "local.conf").write_text(SETTINGS.format(directory=directory, port=port))
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "-F", "-c", directory / "dovecot.conf", stdin=asyncio.subprocess.DEVNULL
        )

        async def stop() -> None:
            process.terminate()
            await process.wait()

        harness.cleanups.push_async_callback(stop)
        return cls(port)

    async def log_in(self, user: str, password: str) -> None:
        """Log in over IMAP, and close the connection. Raises LoginFailed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await reader.readline()
                writer.write(f'a LOGIN "{user}" "{password}"\r\n'.encode())
                response = await reader.readline()
        finally:
            writer.close()
        if not response.startswith(b"a OK"):
            raise LoginFailed(response.decode(errors="replace").strip() or "the connection was closed")

    async def wait_until_ready(self, user: str, password: str) -> None:
        """Wait until a login succeeds. Raises LoginFailed and OSError."""
        deadline = monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                await self.log_in(user, password)
            except (LoginFailed, OSError):
                if monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
            else:
                return


async def _run(environment: dict[str, str], *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        POSTROOM, *arguments, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"postroom {' '.join(arguments[:2])}: {output.decode()}")
