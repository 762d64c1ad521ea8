"""The files of each mail server: templates, and the queries in them that depend on options."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from string import ascii_uppercase

from postroomd.domain.addresses import LOCAL_PART_CHARACTERS
from postroomd.domain.mail_access import DISABLED_REPLY, NOT_YET_REPLY
from postroomd.mailserver.forwarding import forward_domain, leads_back, next_hop
from postroomd.mailserver.options import LockedDelivery, MailServer, postgresql_uri

_VARIABLE = re.compile(r"\{\{(\w+)\}\}")

_OWN = "domain = '%d' AND local_part = '%u'"

# Of the password, in the user name of a submission session: 8 characters of the salt of a hash by Postroom, which ends
# with 22 of salt, $, and 43 of digest. A salt is random, and says nothing about the password. Postfix compares without
# case: a new password has the same characters with a probability of 2^-41. An imported hash of another form, which is
# always the first of its mailbox, has none: no part of its digest may reach a log.
_STAMP = (
    "CASE WHEN substr(password, 1, 10) = '{ARGON2ID}' AND substr(password, length(password) - 66, 1) = '$'"
    " AND substr(password, length(password) - 43, 1) = '$' THEN substr(password, length(password) - 65, 8) ELSE '' END"
)
# The user name of a submission session: it identifies the mailbox and its password, so that a session does not outlive
# either, also if the address has a new owner. The address is for logs, and its domain for rspamd.
SUBMISSION_USER = f"id || '/' || {_STAMP} || '/' || email"

_LOCKED_REPLY = {
    LockedDelivery.ACCEPT: "",
    LockedDelivery.DEFER: f" WHEN status = 'locked' THEN '{NOT_YET_REPLY}'",
    LockedDelivery.REJECT: f" WHEN status = 'locked' THEN '{DISABLED_REPLY}'",
}


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file to write, which may be in a subdirectory.

    A secret one is for its owner only; `owner` is the system user that reads it, root if empty.
    """

    name: str
    text: str
    secret: bool = False
    owner: str = ""
    executable: bool = False


def dovecot_files(server: MailServer) -> Iterator[ConfigFile]:
    """Yield the files of /etc/dovecot."""
    access = server.database
    if access.file:
        driver, connect, groups = "sqlite", f"file:{access.file}?mode=ro", "postfix"
    else:
        driver, groups = "pgsql", ""
        connect = f"host={access.host} port={access.port} dbname={access.name} user={access.user}"
        connect += f" password={access.password}" + (f" sslmode={access.tls}" if access.tls else "")
    variables = _variables(server) | {
        "username_chars": _dovecot_quoted(f"{ascii_uppercase}{LOCAL_PART_CHARACTERS}@"),
        "dovecot_driver": driver,
        "dovecot_connect": connect,
        "extra_groups": groups,
        "submission_user": SUBMISSION_USER,
        "list_purged": _list_purged(server),
        "include_doveadm": f"!include {server.directory}/postroom-doveadm.conf" if server.doveadm_port else "",
        "doveadm_port": str(server.doveadm_port),
        "doveadm_key": server.doveadm_key,
    }
    yield ConfigFile("dovecot.conf", _render("dovecot/dovecot.conf", variables))
    sql = _render("dovecot/postroom-sql.conf.ext", variables)
    yield ConfigFile("postroom-sql.conf.ext", sql, secret=True)
    if not access.file:
        # Of libpq: a colon or backslash in a field is escaped.
        fields = (access.host, str(access.port), access.name, access.user, access.password)
        yield ConfigFile("postroom.pgpass", ":".join(map(_pgpass_field, fields)) + "\n", secret=True)
    if server.doveadm_port:
        doveadm = _render("dovecot/postroom-doveadm.conf", variables)
        yield ConfigFile("postroom-doveadm.conf", doveadm, secret=True)
    for suffix in ("", ".service", ".timer"):
        name = f"postroom-purge-mail{suffix}"
        yield ConfigFile(name, _render(f"dovecot/{name}", variables), executable=not suffix)


def postfix_files(server: MailServer) -> Iterator[ConfigFile]:
    """Yield the files of /etc/postfix, and the settings of postsrsd."""
    variables = _variables(server) | {
        "postfix_type": "sqlite" if server.database.file else "pgsql",
        "milters": _milters(server.milter),
    }
    regexps = ("postroom-srs.regexp", "postroom-forward.regexp", "postroom-forwarded.regexp")
    for name in ("main.cf", "master.cf", *regexps, "postsrsd"):
        yield ConfigFile(name, _render(f"postfix/{name}", variables))
    for name, (comment, query) in _tables(server).items():
        text = f"# {comment}\n# Written by `postroom mail-config postfix`. See docs/mail-server.md.\n\n"
        text += f"{_postfix_connection(server)}\nquery = {query}\n"
        # proxymap reads them, as this user.
        yield ConfigFile(f"postroom-{name}.cf", text, secret=True, owner="postfix")


def rspamd_files(server: MailServer) -> Iterator[ConfigFile]:
    """Yield the files of /etc/rspamd."""
    for name in ("local.d/worker-proxy.inc", "local.d/dkim_signing.conf", "rspamd.local.lua"):
        yield ConfigFile(name, _render(f"rspamd/{name}", _variables(server)))


FILES: Mapping[str, Callable[[MailServer], Iterator[ConfigFile]]] = {
    "dovecot": dovecot_files,
    "postfix": postfix_files,
    "rspamd": rspamd_files,
}


def _tables(server: MailServer) -> Mapping[str, tuple[str, str]]:
    """Return the lookup tables of Postfix: name -> what it is, and its query.

    %u and %d are the local part and the domain of the key, quoted for SQL; a key without a local part, such as
    @example.com, has no rows in a query with %u.
    """
    refused = f"CASE WHEN smtp_reply <> '' THEN smtp_reply{_LOCKED_REPLY[server.locked_delivery]}"
    reply = f"{refused} ELSE 'DUNNO' END"
    # Whether it is full is asked of Dovecot, unless all of its mail is forwarded.
    mailbox_reply = (
        f"{refused} WHEN storage_quota_bytes > 0"
        f" AND NOT EXISTS (SELECT 1 FROM mail_v1_forwardings WHERE {_OWN} AND keep_copy = 0)"
        " THEN 'postroom_quota' ELSE 'DUNNO' END"
    )
    unavailable = f"CASE WHEN smtp_reply <> '' THEN smtp_reply{_LOCKED_REPLY[server.locked_delivery]} ELSE '' END"
    sender = f"SELECT {SUBMISSION_USER} FROM mail_v1_users WHERE may_log_in = 1 AND may_send = 1"
    senders = f"{sender} AND {_OWN}"
    if server.aliases_may_send:
        senders += f" UNION ALL {sender} AND id = (SELECT mailbox_id FROM mail_v1_aliases WHERE {_OWN})"
    return {
        "domains": (
            "The domains that this host receives mail for.",
            "SELECT name FROM mail_v1_domains WHERE name = '%s'",
        ),
        "mailboxes": ("The mailboxes.", f"SELECT id FROM mail_v1_users WHERE {_OWN}"),
        "recipients": (
            "Where mail for an address goes: a mailbox's forwardings (encoded if they lead to other hosts: see main.cf)"
            " and itself, if it keeps a copy, has none, or forwarding would only lead back to it; an alias's mailbox. A"
            " mailbox is found here, so that the catch-all is not.",
            f"SELECT {next_hop(server)} FROM mail_v1_forwardings WHERE {_OWN}"
            f" UNION SELECT email FROM mail_v1_users WHERE {_OWN} AND (NOT EXISTS"
            f" (SELECT 1 FROM mail_v1_forwardings WHERE {_OWN} AND keep_copy = 0) OR {leads_back(server, _OWN)})"
            f" UNION SELECT mailbox_email FROM mail_v1_aliases WHERE {_OWN}",
        ),
        "catch-all": (
            "The mailbox of a domain's catch-all. Postfix looks for @domain after the exact address.",
            "SELECT mailbox_email FROM mail_v1_aliases"
            " WHERE domain = '%d' AND local_part = '' AND catch_all = 1 AND '%s' = '@%d'",
        ),
        "access": (
            "The SMTP reply to a recipient; DUNNO if mail is accepted, postroom_quota (main.cf) if it may be full. A"
            " catch-all's counts if nothing else has the address, which Postfix looks up with its detail first.",
            f"SELECT {mailbox_reply} FROM mail_v1_users WHERE {_OWN}"
            f" UNION ALL SELECT {reply} FROM mail_v1_aliases WHERE {_OWN}"
            f" UNION ALL SELECT {reply} FROM mail_v1_aliases WHERE domain = '%d' AND local_part = '' AND catch_all = 1"
            " AND '%u' NOT LIKE '%%+%%'"
            f" AND NOT EXISTS (SELECT 1 FROM mail_v1_users WHERE {_OWN})"
            f" AND NOT EXISTS (SELECT 1 FROM mail_v1_aliases WHERE {_OWN})",
        ),
        "unavailable": (
            "Mailboxes that can't be delivered to now, which an alias or a forwarding may lead to: mail is returned"
            " (error) or kept in the queue (retry).",
            f"SELECT CASE WHEN reply LIKE '5%%' THEN 'error:' ELSE 'retry:' END || substr(reply, 5) FROM"
            f" (SELECT {unavailable} AS reply FROM mail_v1_users WHERE {_OWN}) AS found WHERE reply <> ''",
        ),
        "senders": (
            "Who may send mail from an address: the user name of its mailbox's submission sessions, which is Dovecot's"
            " (postroom-sql.conf.ext).",
            senders,
        ),
    }


def _pattern(name: str) -> str:
    """Return a POSIX regular expression that matches a host name."""
    return re.escape(name).replace(r"\-", "-")


def _postfix_connection(server: MailServer) -> str:
    access = server.database
    if access.file:
        return f"# Postfix opens the file for reading only.\ndbpath = {access.file}"
    return f"hosts = {postgresql_uri(access)}\n# Required, although the URI has it.\ndbname = {access.name}"


def _list_purged(server: MailServer) -> str:
    """Return the shell command that runs a query, which is its last argument, and prints a column."""
    access = server.database
    if access.file:
        return f"sqlite3 -readonly -batch -noheader {access.file}"
    info = f"host={access.host} port={access.port} dbname={access.name} user={access.user}"
    info += f" passfile={server.directory}/postroom.pgpass" + (f" sslmode={access.tls}" if access.tls else "")
    return f"psql --no-psqlrc --no-password --tuples-only --no-align --dbname='{info}' --command"


def _pgpass_field(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")


def _milters(milter: str) -> str:
    if not milter:
        return "# smtpd_milters = inet:127.0.0.1:11332"
    return f"smtpd_milters = {milter}\nnon_smtpd_milters = {milter}\nmilter_default_action = tempfail"


def _variables(server: MailServer) -> dict[str, str]:
    return {
        "hostname": server.hostname,
        "hostname_pattern": _pattern(server.hostname),
        "forward_domain": forward_domain(server),
        "forward_domain_pattern": _pattern(forward_domain(server)),
        "directory": str(server.directory),
        "tls_cert": str(server.tls_cert),
        "tls_key": str(server.tls_key),
        "mail_directory": str(server.mail_directory),
        "mail_user": server.mail_user,
        "mail_group": server.mail_group,
        "queue_directory": str(server.queue_directory),
        "forward_port": str(server.forward_port),
        "srs_forward_port": str(server.srs_forward_port),
        "srs_reverse_port": str(server.srs_reverse_port),
        "rspamd_port": str(server.rspamd_port),
        "dkim_directory": str(server.dkim_directory),
    }


def _render(name: str, variables: Mapping[str, str]) -> str:
    template = files("postroomd.mailserver").joinpath("templates", *name.split("/")).read_text()
    return _VARIABLE.sub(lambda found: variables[found[1]], template)


def _dovecot_quoted(text: str) -> str:
    """Return a text as a quoted value of Dovecot's configuration."""
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
