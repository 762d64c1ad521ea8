"""The keys of --secret-key-file: what they encrypt, and when the file is read."""

import base64
import os
from pathlib import Path

import pytest

from postroomd.domain.errors import SecretKeyError
from postroomd.storage.secret_keys import NO_KEYS, Sealed, SecretKeys, owner_of_dkim_key

OWNER = owner_of_dkim_key("d1", "post")
SECRET = "-----BEGIN PRIVATE KEY-----\nå\n"


def key(octet: int) -> str:
    return base64.b64encode(bytes([octet]) * 32).decode()


def write(path: Path, *lines: str, mode: int = 0o600) -> Path:
    """Replace the file, as an editor does: its inode is another one."""
    new = path.with_suffix(".new")
    new.write_text("\n".join(lines) + "\n")
    new.chmod(mode)
    return new.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_secret_is_encrypted_and_decrypted(path: Path) -> None:
    keys = SecretKeys(write(path, key(1)))
    sealed = keys.seal(SECRET, OWNER)
    assert sealed.key_id == keys.current_id
    assert len(sealed.key_id or "") == 16
    assert "PRIVATE" not in sealed.text + base64.b64decode(sealed.text).decode("latin-1")
    assert sealed.text not in repr(sealed)
    assert SecretKeys(path).open(sealed, OWNER) == SECRET
    assert keys.seal(SECRET, OWNER).text != sealed.text  # each with a nonce of its own


def test_without_a_file_secrets_are_stored_as_they_are() -> None:
    assert NO_KEYS.current_id is None
    assert NO_KEYS.seal(SECRET, OWNER) == Sealed(SECRET, None)
    assert NO_KEYS.open(Sealed(SECRET, None), OWNER) == SECRET


def test_a_plain_secret_is_read_with_keys_too(path: Path) -> None:
    assert SecretKeys(write(path, key(1))).open(Sealed(SECRET, None), OWNER) == SECRET


@pytest.mark.parametrize("other", [owner_of_dkim_key("d2", "post"), owner_of_dkim_key("d1", "new"), ""])
def test_a_secret_of_another_owner_is_refused(path: Path, other: str) -> None:
    keys = SecretKeys(write(path, key(1)))
    with pytest.raises(SecretKeyError, match="was changed or moved"):
        keys.open(keys.seal(SECRET, OWNER), other)


def test_a_changed_secret_is_refused(path: Path) -> None:
    keys = SecretKeys(write(path, key(1)))
    sealed = keys.seal(SECRET, OWNER)
    octets = bytearray(base64.b64decode(sealed.text))
    for place in (0, 20, -1):
        changed = bytearray(octets)
        changed[place] ^= 1
        with pytest.raises(SecretKeyError):
            keys.open(Sealed(base64.b64encode(changed).decode(), sealed.key_id), OWNER)


def test_the_first_key_encrypts_and_former_keys_decrypt(path: Path) -> None:
    former = SecretKeys(write(path, key(1))).seal(SECRET, OWNER)
    keys = SecretKeys(write(path, key(2), "", f"  {key(1)}  "))
    assert keys.open(former, OWNER) == SECRET
    present = keys.seal(SECRET, OWNER)
    assert present.key_id != former.key_id
    with pytest.raises(SecretKeyError, match=f"keys does not have key {present.key_id}, which encrypts"):
        SecretKeys(write(path, key(1))).open(present, OWNER)


def test_an_encrypted_secret_without_a_file_names_the_setting(path: Path) -> None:
    sealed = SecretKeys(write(path, key(1))).seal(SECRET, OWNER)
    fault = f"^--secret-key-file: DKIM private keys .* set it .* key {sealed.key_id}$"
    with pytest.raises(SecretKeyError, match=fault):
        NO_KEYS.open(sealed, OWNER)


def test_a_changed_file_is_read_again(path: Path) -> None:
    running = SecretKeys(write(path, key(1)))
    first = running.current_id
    write(path, key(2), key(1))
    assert running.seal(SECRET, OWNER).key_id != first
    newest = SecretKeys(write(path, key(3), key(2), key(1))).seal(SECRET, OWNER)
    assert running.open(newest, OWNER) == SECRET


def test_the_keys_stay_in_use_while_the_file_is_wrong(path: Path) -> None:
    running = SecretKeys(write(path, key(1)))
    first = running.current_id
    write(path, "x")
    assert running.current_id == first
    path.unlink()
    assert running.open(running.seal(SECRET, OWNER), OWNER) == SECRET
    write(path, key(2))
    assert running.current_id != first


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620])
def test_a_file_that_others_can_reach_is_refused(path: Path, mode: int) -> None:
    write(path, key(1), mode=mode)
    with pytest.raises(
        SecretKeyError, match=r"^--secret-key-file: .*keys is accessible to others: run chmod 600 on it$"
    ):
        SecretKeys(path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_owner_is_read(path: Path, mode: int) -> None:
    assert SecretKeys(write(path, key(1), mode=mode)).current_id


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([""], "is empty"),
        ([key(1), "secret!"], "line 2 of .* is not the base64 text of 32 octets: .*openssl rand -base64 32"),
        ([key(1)[:-4]], "line 1 of"),
        ([base64.b64encode(b"x" * 33).decode()], "line 1 of"),
        ([key(1)] * 2_000, "is larger than 65536 octets"),
    ],
)
def test_a_wrong_file_is_named_without_its_content(path: Path, lines: list[str], fault: str) -> None:
    with pytest.raises(SecretKeyError, match=rf"^--secret-key-file: .*{fault}") as caught:
        SecretKeys(write(path, *lines))
    assert not any(line in str(caught.value) for line in lines if line)


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    for path, fault in ((tmp_path / "absent", "No such file"), (tmp_path, "is not a file")):
        with pytest.raises(SecretKeyError, match=rf"^--secret-key-file: .*{fault}"):
            SecretKeys(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SecretKeyError, match="is not a file"):
        SecretKeys(tmp_path / "pipe")
