"""The Debian packages of the mail servers: their installation where that is possible."""

import os
import shutil
import subprocess
from pathlib import Path

PACKAGES = (
    "dovecot-core",
    "dovecot-imapd",
    "dovecot-lmtpd",
    "dovecot-sqlite",
    "dovecot-pgsql",
    "postfix",
    "postfix-sqlite",
    "postfix-pgsql",
    "postsrsd",
    "rspamd",
    "sqlite3",
)

FILES = (
    Path("/usr/sbin/dovecot"),
    Path("/usr/lib/dovecot/imap"),
    Path("/usr/lib/dovecot/lmtp"),
    Path("/usr/lib/dovecot/modules/libdriver_sqlite.so"),
    Path("/usr/lib/dovecot/modules/libdriver_pgsql.so"),
    Path("/usr/lib/postfix/sbin/master"),
    Path("/usr/lib/postfix/postfix-sqlite.so"),
    Path("/usr/lib/postfix/postfix-pgsql.so"),
    Path("/usr/sbin/postsrsd"),
    Path("/usr/bin/rspamd"),
    Path("/usr/bin/sqlite3"),
)
"""One file of each package."""

INSTALL_SECONDS = 600
LOCK_SECONDS = 300  # that apt-get waits for another one, such as that of unattended upgrades
DENY_SERVICES = Path("/usr/sbin/policy-rc.d")


class PackagesMissing(Exception):
    """The mail servers are not installed, and can't be. The text has the remedy."""


def require_packages() -> None:
    """Install the packages that are missing, without starting their services. Raises PackagesMissing."""
    if os.geteuid() != 0:
        raise PackagesMissing("Dovecot and Postfix start as root only: run `make test-mail` as root")
    if not missing():
        return
    command = f"apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    if shutil.which("apt-get") is None:
        raise PackagesMissing(f"{missing()} are missing, and there is no apt-get: on Debian 12, run {command}")
    denied = not DENY_SERVICES.exists()
    if denied:
        DENY_SERVICES.write_text(
            "#!/bin/sh\nexit 101\n"
        )  # https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
        DENY_SERVICES.chmod(0o755)
    output = ""
    try:
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            done = subprocess.run(
                ["apt-get", "-qq", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}", *arguments],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                check=False,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
            )
            output += done.stdout + done.stderr
    finally:
        if denied:
            DENY_SERVICES.unlink()
    if missing():
        failed = f"{missing()} are missing, and apt-get could not install them: run {command}"
        raise PackagesMissing(f"{failed}\n{output[-2_000:]}")


def missing() -> str:
    """Return the files of the packages that do not exist; empty if all do."""
    return ", ".join(str(file) for file in FILES if not file.exists())
