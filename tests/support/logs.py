"""The configuration of logs, which production code changes for its whole process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from postroomd.observability.logs import QUIET_LIBRARIES


@contextmanager
def restored_logging() -> Iterator[None]:
    """Undo at the end of the block what `configure` does in it."""
    root = logging.getLogger()
    handlers, configuration = list(root.handlers), structlog.get_config()
    levels = {name: logging.getLogger(name).level for name in ("", *QUIET_LIBRARIES)}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        structlog.configure(**configuration)
