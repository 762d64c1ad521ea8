"""The commands as docs/cli.md describes them, and what their start imports."""

import subprocess
import sys
from pathlib import Path

from postroomd.cli.exit_codes import ExitCode
from tools.cli_reference import replaced

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
SLOW = ("grpc", "rich", "sqlalchemy", "yaml", "aiohttp", "alembic", "asyncpg", "argon2", "dns")


def test_the_reference_is_current() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert replaced(text) == text, "run `python -m tools.cli_reference docs/cli.md`"


def test_every_exit_code_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"| {code.value} | " in text


def test_the_start_imports_nothing_that_is_slow() -> None:
    program = (
        "import sys; from postroomd.cli.app import run; run(['--version'])\n"
        f"print(sorted(set({SLOW!r}) & set(sys.modules)))"
    )
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert completed.stdout.splitlines()[-1] == "[]"
