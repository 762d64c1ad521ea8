"""Files that the gateway serves as they are, without authentication."""

import hashlib
import importlib.resources
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import CIMultiDict

from postroomd.gateway import headers
from postroomd.gateway.channel import ServiceChannel
from postroomd.gateway.endpoints import IncomingRequest
from postroomd.gateway.responses import HEADERS

_NO_HEADERS: Mapping[str, str] = {}


class StaticFile:
    """Endpoint of one file of this package, held in memory."""

    rpc = ""
    is_probe = False

    def __init__(self, name: str, media_type: str, further_headers: Mapping[str, str] = _NO_HEADERS) -> None:
        """Read the file. Raises OSError."""
        self._content = importlib.resources.files("postroomd.gateway").joinpath(name).read_bytes()
        self._etag = hashlib.sha256(self._content).hexdigest()[:32]
        self._headers = CIMultiDict(HEADERS)
        # A browser may keep it, and asks by its etag whether it has changed.
        self._headers.update(
            {
                hdrs.CACHE_CONTROL: "no-cache",
                hdrs.ETAG: f'"{self._etag}"',
                hdrs.CONTENT_TYPE: media_type,
                **further_headers,
            }
        )

    def connect(self, channel: ServiceChannel) -> None:
        """Do nothing: a file needs no service."""

    async def respond(self, request: IncomingRequest) -> web.Response:
        """Return the file, or 304 if the caller has it."""
        if headers.if_none_match(request.http, self._etag):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=self._headers)
        return web.Response(body=self._content, headers=self._headers)
