"""Differences between the engines live in storage/drivers: no other module asks which engine it is on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import postroomd
from postroomd.storage.drivers import DRIVERS

SOURCE = Path(postroomd.__file__).parent
DRIVERS_PACKAGE = Path("storage/drivers")

EXEMPT = {
    # Revisions are frozen: they describe the schema of their time, and must not change with the drivers.
    Path("storage/migrations/versions"): "frozen history",
    # Settings are read before SQLAlchemy is loaded, and by processes without storage: they check the form of a URL.
    Path("settings/types.py"): "the two URL forms",
    # The mail servers have drivers of their own, named in their files.
    Path("mailserver/options.py"): "the two URL forms",
    Path("mailserver/files.py"): "the mail servers' drivers",
    # Backup and restore are of SQLite's files; PostgreSQL has tools of its own, which the commands name.
    Path("storage/backup.py"): "files of one engine",
}

ENGINES = tuple(driver.name for driver in DRIVERS)
LIBRARIES = ("sqlite3", "aiosqlite", "asyncpg", "sqlalchemy.dialects")
QUESTIONS = ("get_backend_name", "get_dialect", "get_driver_name", "drivername")


def modules() -> list[Path]:
    """Return the modules outside storage/drivers, relative to the package."""
    found = [path.relative_to(SOURCE) for path in sorted(SOURCE.rglob("*.py"))]
    return [path for path in found if not any(path.is_relative_to(each) for each in (DRIVERS_PACKAGE, *EXEMPT))]


def engine_choices(tree: ast.AST) -> Iterator[str]:
    """Yield each place of a syntax tree that depends on the name of an engine."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Attribute(attr="name", value=ast.Attribute(attr="dialect") | ast.Name(id="dialect")):
                yield f"line {line}: dialect.name"
            case ast.Attribute(attr=attr) if attr in QUESTIONS:
                yield f"line {line}: {attr}"
            case ast.Constant(value=str() as text) if id(node) not in docstrings and is_engine_literal(text):
                yield f"line {line}: {text!r}"
            case ast.keyword(arg=str() as name) if name.startswith(tuple(f"{engine}_" for engine in ENGINES)):
                yield f"line {line}: {name}="
            case ast.Import(names=names) if any(is_driver_library(name.name) for name in names):
                yield f"line {line}: import of a driver"
            case ast.ImportFrom(module=str() as module) if is_driver_library(module):
                yield f"line {line}: import from {module}"
            case _:
                pass


def is_engine_literal(text: str) -> bool:
    return text in ENGINES or text.startswith(tuple(f"{engine}{mark}" for engine in ENGINES for mark in "+_:"))


def is_driver_library(module: str) -> bool:
    return any(module == library or module.startswith(f"{library}.") for library in LIBRARIES)


@pytest.mark.parametrize("module", modules(), ids=str)
def test_no_module_outside_the_drivers_asks_for_the_engine(module: Path) -> None:
    tree = ast.parse((SOURCE / module).read_text())
    assert list(engine_choices(tree)) == [], f"{module}: move the difference to a method of storage/drivers/base.py"


@pytest.mark.parametrize("path", EXEMPT, ids=str)
def test_every_exemption_is_still_needed(path: Path) -> None:
    files = [SOURCE / path] if path.suffix else (SOURCE / path).glob("*.py")
    assert any(any(engine_choices(ast.parse(file.read_text()))) for file in files)


@pytest.mark.parametrize(
    "source",
    [
        "connection.dialect.name",
        "dialect.name",
        "engine == 'sqlite'",
        "f(postgresql_where=x)",
        "url.startswith('sqlite+aiosqlite')",
        "make_url(url).get_backend_name()",
        "import sqlite3",
        "from sqlalchemy.dialects.postgresql import UUID",
    ],
)
def test_every_form_of_an_engine_choice_is_recognized(source: str) -> None:
    assert len(list(engine_choices(ast.parse(source)))) == 1
