"""`postroom secrets`: the encryption of DKIM private keys, in the database, also while services and workers run."""

import typer

from postroomd.cli.database import with_repository
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_row
from postroomd.settings import InvalidSetting, Settings
from postroomd.storage.protocols.repository import Repository

CHUNK = 200  # domains of a transaction: few enough that no call waits for them for long

secrets = typer.Typer(
    name="secrets", help="Encryption of secrets in the database.", no_args_is_help=True, rich_markup_mode=None
)


@secrets.command("rotate")
@with_settings("secrets rotate")
def rotate(*, settings: Settings, output: ListOutput = ListFormat.TABLE) -> None:
    """Encrypt every DKIM private key with the first key of --secret-key-file.

    Those that are not encrypted yet, or with a former key of the file, are encrypted with it. Services and workers run
    on, and read the file again by themselves. An interrupted run is continued by the next one.
    """
    if settings.secret_key_file is None:
        raise InvalidSetting(
            "--secret-key-file: missing: set it to the file with the present key first, and former keys after it"
        )
    counts = {"encrypted": 0, "reencrypted": 0}

    async def reencrypt(repository: Repository) -> dict[str, object]:
        after = ""
        while True:
            step = await repository.secrets.reencrypt(after, CHUNK)
            counts["encrypted"] += step.encrypted
            counts["reencrypted"] += step.reencrypted
            if step.last_id is None:
                break
            after = step.last_id
        total = (await repository.secrets.counts()).get(step.key_id, 0)
        return {"key": step.key_id, **counts, "private_keys": total}

    print_row(with_repository(settings, reencrypt, settings.secret_key_file), output)
