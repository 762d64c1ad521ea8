"""`postroom secrets`: the encryption of DKIM private keys, in the database, also while services and workers run."""

import typer

from postroomd.cli.database import with_repository
from postroomd.cli.errors import CommandFailed
from postroomd.cli.options import with_settings
from postroomd.cli.output import ListFormat, ListOutput, print_row
from postroomd.domain.errors import SecretKeyFileError
from postroomd.settings import InvalidSetting, Settings
from postroomd.storage.protocols.repository import Repository

CHUNK = 200  # domains of a transaction: few enough that no call waits for them for long

NEXT = (
    "Every service and worker now needs key {key}: run `postroom doctor` on each machine, which names the first key of"
    " its file. Then remove former keys from the files; keep one as long as you keep backups that need it."
)

secrets = typer.Typer(
    name="secrets", help="Encryption of secrets in the database.", no_args_is_help=True, rich_markup_mode=None
)


@secrets.command("rotate")
@with_settings("secrets rotate")
def rotate(*, settings: Settings, output: ListOutput = ListFormat.TABLE) -> None:
    """Encrypt every DKIM private key with the first key of --secret-key-file.

    Those that are not encrypted yet, or with a former key of the file, are encrypted with it. An interrupted run is
    continued by the next one.

    First put the new key in the first line of the file on every machine, and leave the former one after it. Services
    and workers that run with the file read it again by themselves; restart those that run without it. This command
    can't see the files of other machines: `postroom doctor` on each names the first key of its file. Remove the former
    key from the files after this command.
    """
    if settings.secret_key_file is None:
        raise InvalidSetting(
            "--secret-key-file: missing: set it to the file with the present key first, and former keys after it"
        )
    counts = {"encrypted": 0, "reencrypted": 0}

    async def reencrypt(repository: Repository) -> dict[str, object]:
        after = ""
        while True:
            try:
                step = await repository.secrets.reencrypt(after, CHUNK)
            except SecretKeyFileError as error:
                if not any(counts.values()):
                    raise
                done = f"{sum(counts.values())} private keys are encrypted with the first key already"
                raise CommandFailed(f"{error}; {done}: run the command again to go on") from error
            counts["encrypted"] += step.encrypted
            counts["reencrypted"] += step.reencrypted
            if step.last_id is None:
                break
            after = step.last_id
        total = (await repository.secrets.counts()).get(step.key_id, 0)
        return {"key": step.key_id, **counts, "private_keys": total}

    row = with_repository(settings, reencrypt, settings.secret_key_file)
    print_row(row, output)
    if output is ListFormat.TABLE:
        typer.echo(NEXT.format(key=row["key"]))
