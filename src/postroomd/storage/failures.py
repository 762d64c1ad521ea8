"""The meaning of a driver's error, on either engine, wrapped by SQLAlchemy or not."""

import asyncio

from sqlalchemy import exc, make_url

from postroomd.domain.errors import StorageUnavailable
from postroomd.storage.drivers import DRIVERS, driver_for
from postroomd.storage.drivers.base import Failure


def is_unavailable(error: BaseException) -> bool:
    """Return whether the database cannot be reached, or cannot be written to, for now."""
    if isinstance(error, exc.TimeoutError | OSError | asyncio.TimeoutError):
        return True
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    return _classify(error) is Failure.UNAVAILABLE


def is_damaged(error: BaseException) -> bool:
    """Return whether a file is damaged, or not a database."""
    return _classify(error) is Failure.DAMAGED


def is_serialization_failure(error: BaseException) -> bool:
    """Return whether a transaction lost to a concurrent one: a serialization failure or a deadlock."""
    return _classify(error) is Failure.SERIALIZATION


def is_unique_violation(error: BaseException) -> bool:
    """Return whether a unique key exists already.

    If a concurrent transaction inserted it between this one's lookup and its write, the next attempt's lookup sees it.
    """
    return _classify(error) is Failure.UNIQUE_VIOLATION


def is_driver_error(error: BaseException) -> bool:
    """Return whether an error comes from a driver, of whatever meaning."""
    return isinstance(error, exc.DBAPIError) or _classify(error) is not None


def explain(error: BaseException) -> str | None:
    """Return a driver's specific text for the cause of an error, which holds no customer's data, or None."""
    candidates = (error, unwrapped(error))  # a failed connection itself explains more than the error that it wraps
    return next((text for each in candidates for driver in DRIVERS if (text := driver.explain(each)) is not None), None)


def explain_for(url: str, error: BaseException) -> str | None:
    """Return the database and user that an error comes from, and its cause, in one line; None if that is unknown."""
    reason = explain(error)
    return reason and f"{driver_for(url).describe(make_url(url), with_user=True)}: {reason}"


def located(url: str, error: StorageUnavailable) -> StorageUnavailable:
    """Return the error with a reason that names the database and the cause.

    For the operator of this process: what callers of the service see names no database.
    """
    where = driver_for(url).describe(make_url(url))
    if error.reason.startswith(where):
        return error
    if error.reason:
        return StorageUnavailable(reason=f"{driver_for(url).describe(make_url(url), with_user=True)}: {error.reason}")
    return StorageUnavailable(reason=explain_for(url, error.__cause__ or error) or f"{where}: {error}")


def unwrapped(error: BaseException) -> BaseException:
    """Return the driver's error that SQLAlchemy has wrapped, or the error itself."""
    original = getattr(error, "orig", None)
    return original if isinstance(original, BaseException) else error


def _classify(error: BaseException) -> Failure | None:
    original = unwrapped(error)
    return next((failure for driver in DRIVERS if (failure := driver.classify(original)) is not None), None)
