"""The check of the keys that encrypt DKIM private keys."""

from postroomd.domain.diagnosis import Condition, Finding
from postroomd.domain.encryption import KeyCounts
from postroomd.domain.errors import SecretKeyError
from postroomd.settings import Settings
from postroomd.storage.secret_keys import SecretKeys

CHECK = "secret keys"
REMEDY = "run `postroom secrets rotate` once the file of every machine has this key first"


def check_secret_keys(settings: Settings, counts: KeyCounts) -> Finding:
    """Return whether the keys of --secret-key-file decrypt every private key, and the first of them all."""
    try:
        keys = SecretKeys(settings.secret_key_file)
        keys.require([key_id for key_id in counts if key_id is not None])
    except SecretKeyError as error:
        remedy = "have the file with these keys, readable by its owner only; a lost key can't be replaced"
        return Finding(check=CHECK, condition=Condition.ERROR, detail=str(error), remedy=remedy)
    present = keys.current_id
    total, plain = sum(counts.values()), counts.get(None, 0)
    if present is None:
        detail = f"{total} DKIM private keys, not encrypted: --secret-key-file is not set"
        return Finding(check=CHECK, condition=Condition.OK, detail=detail)
    if former := total - plain - counts.get(present, 0):
        detail = (
            f"{former} DKIM private keys are encrypted with a former key, not with {present}, the first of the file"
        )
        detail += f", and {plain} are not encrypted" if plain else ""
    elif plain:
        detail = f"{plain} DKIM private keys are not encrypted; {present} is the first key of the file"
    else:
        detail = f"{total} DKIM private keys, encrypted with key {present}, the first of the file"
        return Finding(check=CHECK, condition=Condition.OK, detail=detail)
    return Finding(check=CHECK, condition=Condition.WARNING, detail=detail, remedy=REMEDY)
