"""The SCW_ variables in the file that `--env-file` names."""

from pathlib import Path

import pytest

from postroomd.runtime.sdk_environment import SECRET, require_writable, withheld, write_env_file

FIRST = {"SCW_API_URL": "http://127.0.0.1:8080", "SCW_ACCESS_KEY": "SCWA", SECRET: "s", "SCW_DEFAULT_PROJECT_ID": "p"}


def test_a_later_start_replaces_the_url_and_keeps_the_only_copy_of_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "env"
    write_env_file(path, FIRST)
    write_env_file(path, {"SCW_API_URL": "http://127.0.0.1:9090"})
    assert path.read_text().splitlines() == [
        "SCW_API_URL=http://127.0.0.1:9090",
        "SCW_ACCESS_KEY=SCWA",
        "SCW_SECRET_KEY=s",
        "SCW_DEFAULT_PROJECT_ID=p",
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_key_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("SCW_SECRET_KEY=old\nSCW_REGION=fr-par\n")
    write_env_file(path, FIRST)
    assert path.read_text() == "".join(f"{name}={value}\n" for name, value in FIRST.items())


def test_only_the_secret_is_withheld() -> None:
    assert withheld(FIRST) == {name: value for name, value in FIRST.items() if name != SECRET}


def test_a_directory_that_takes_no_file_is_noticed_and_nothing_is_left_behind(tmp_path: Path) -> None:
    require_writable(tmp_path / "env")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError):
        require_writable(tmp_path / "missing" / "env")
