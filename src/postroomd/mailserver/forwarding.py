"""The SQL of where mail for a mailbox goes, in Postfix's table of recipients."""

from postroomd.mailserver.options import MailServer

MAX_REACHED = 100
"""How many addresses a loop is looked for among: a lookup must not read every mailbox of a tenant.

Postfix's virtual_alias_recursion_limit is the same: it refuses longer chains.
"""


def forward_domain(server: MailServer) -> str:
    """Return the domain of encoded destinations, a name that only this host's Postfix uses."""
    return f"forward.{server.hostname}"


def next_hop(server: MailServer) -> str:
    """Return where a forwarding leads: an address of a hosted domain, or an encoded one of another host.

    A destination has one @, and its domain no =: `=` in place of the @ can be decoded (postroom-forward.regexp).
    """
    # Not EXISTS, for which PostgreSQL may read every domain into a hash table.
    hosted = f"(SELECT destination FROM mail_v1_domains WHERE name = {_domain(server, 'destination')})"
    return f"coalesce({hosted}, replace(destination, '@', '=') || '@{forward_domain(server)}')"


def leads_back(server: MailServer, own: str) -> str:
    """Return the condition that forwardings lead back to their mailbox, over mailboxes that keep no copy.

    `own` is the condition of its address. Postfix refuses a message, for all of its recipients, if one is in a loop in
    which no mailbox keeps the mail. A mailbox without such forwardings takes one search.
    """
    first = f"SELECT {_parts(server, 'lower(destination)')} FROM mail_v1_forwardings WHERE {own} AND keep_copy = 0"
    if server.database.file:
        # SQLite has no LATERAL, and PostgreSQL only one recursive term. CROSS JOIN has SQLite keep the order.
        walk = " UNION ".join(
            f"SELECT {_parts(server, address)} FROM reached CROSS JOIN {rows}" for address, rows in _STEPS
        )
    else:
        # OFFSET keeps the planner from joining the views, whose barrier would have it read all of their rows.
        steps = " UNION ALL ".join(f"SELECT {address} AS address FROM {rows}" for address, rows in _STEPS)
        walk = f"SELECT {_parts(server, 'address')} FROM reached CROSS JOIN LATERAL ({steps} OFFSET 0) AS step"
    return (
        f"EXISTS (WITH RECURSIVE reached (domain, local_part) AS ({first} UNION {walk})"
        f" SELECT 1 FROM (SELECT domain, local_part FROM reached LIMIT {MAX_REACHED}) AS found WHERE {own})"
    )


def _at(view: str) -> str:
    return f"{view}.domain = reached.domain AND {view}.local_part = reached.local_part"


_STEPS = (
    ("lower(f.destination)", f"mail_v1_forwardings AS f WHERE {_at('f')} AND f.keep_copy = 0"),
    ("a.mailbox_email", f"mail_v1_aliases AS a WHERE {_at('a')}"),
    (
        "c.mailbox_email",
        "mail_v1_aliases AS c WHERE c.domain = reached.domain AND c.local_part = '' AND c.catch_all = 1"
        f" AND NOT EXISTS (SELECT 1 FROM mail_v1_users AS u WHERE {_at('u')})"
        f" AND NOT EXISTS (SELECT 1 FROM mail_v1_aliases AS e WHERE {_at('e')})",
    ),
)
"""The address that an address `reached` leads to, and the rows in which it is: forwardings, aliases, the catch-all."""


def _parts(server: MailServer, address: str) -> str:
    """Return an address's domain and its local part without the detail."""
    return (
        f"{_domain(server, address)}, substr({address}, 1, {_position(server)}(replace({address}, '@', '+'), '+') - 1)"
    )


def _domain(server: MailServer, address: str) -> str:
    return f"substr({address}, {_position(server)}({address}, '@') + 1)"


def _position(server: MailServer) -> str:
    return "instr" if server.database.file else "strpos"
