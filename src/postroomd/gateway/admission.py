"""Admission of requests: a bounded number of slots for calls in progress."""

from postroomd.gateway.errors import RequestError, error_response

TOO_MANY_REQUESTS = error_response("too_many_requests")


class Slots:
    """Slots of one kind of request, one of which is held during a `with` block.

    There is no queue: without a free slot, a request is rejected.
    """

    def __init__(self, max_slots: int) -> None:
        self._max_slots = max_slots
        self._in_use = 0

    def __enter__(self) -> None:
        """Take a slot. Raises RequestError (429) if none is free."""
        if self._in_use >= self._max_slots:
            raise RequestError(TOO_MANY_REQUESTS)
        self._in_use += 1

    def __exit__(self, *_: object) -> None:
        """Free the slot."""
        self._in_use -= 1
