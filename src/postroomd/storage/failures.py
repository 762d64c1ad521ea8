"""What a driver's error means, on either engine, wrapped by SQLAlchemy or not."""

import asyncio
import sqlite3

from sqlalchemy import exc


def is_out_of_reach(error: BaseException) -> bool:
    """Whether an error says that the database can't be reached, or can't write, for now."""
    if isinstance(error, exc.TimeoutError | OSError | asyncio.TimeoutError):
        return True
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    code = _sqlite_extended_code(error)
    if code is not None:
        return code & 0xFF in _SQLITE_OUT_OF_REACH
    state = _sqlstate(error)
    return state in _SQLSTATES_OUT_OF_REACH or state[:2] == "08"


def is_no_database(error: BaseException) -> bool:
    """Whether a file is damaged, or something else than an SQLite database."""
    code = _sqlite_extended_code(error)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


def is_serialization_failure(error: BaseException) -> bool:
    """Whether a transaction was ended for the sake of another: a serialization failure, or a deadlock."""
    return _sqlstate(error) in {"40001", "40P01"}


def is_unique_violation(error: BaseException) -> bool:
    """Whether a unique key was there already.

    Where another transaction took it between this one's look and its write, the look will see it the next time.
    """
    return _sqlstate(error) == "23505" or _sqlite_extended_code(error) in {
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    }


# Primary result codes (https://sqlite.org/rescode.html); any other is a fault of ours.
_SQLITE_OUT_OF_REACH = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}

# PostgreSQL's Appendix A, besides class 08, connection exceptions.
_SQLSTATES_OUT_OF_REACH = {
    "25006",  # read_only_sql_transaction: a primary that has become a replica
    "53100",  # disk_full
    "53200",  # out_of_memory
    "53300",  # too_many_connections
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
    "57P05",  # idle_session_timeout
}


def _sqlstate(error: BaseException) -> str:
    """The SQLSTATE of a PostgreSQL driver's error, wrapped or not; "" for others."""
    original = getattr(error, "orig", None) or error
    return str(getattr(original, "sqlstate", None) or "")


def _sqlite_extended_code(error: BaseException) -> int | None:
    """The extended result code of an SQLite driver's error, wrapped or not; None for others."""
    code = getattr(getattr(error, "orig", None) or error, "sqlite_errorcode", None)
    return code if isinstance(code, int) else None
