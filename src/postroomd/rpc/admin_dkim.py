"""The RPCs of the admin service about DKIM keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from secrets import token_hex
from uuid import uuid4

from postroom.admin.v1alpha1 import dkim_pb2 as pb
from postroomd.domain.context import CallContext
from postroomd.domain.dkim import (
    MAX_SELECTOR,
    DkimKeys,
    NewDkimKey,
    needs_key,
    new_selector,
    next_record,
    require_cancelable,
    rotate_key,
)
from postroomd.domain.domain_names import MAX_DOMAIN_NAME
from postroomd.domain.errors import InvalidArguments, NotFound, Reason, Violation
from postroomd.domain.model import OWNING_STATUSES, Domain
from postroomd.domain.queries import Slice
from postroomd.domain.records import dkim_record
from postroomd.domain.validation import checking, is_uuid
from postroomd.net import canonical_host_name
from postroomd.rpc import admin_convert as convert
from postroomd.rpc.admin_requests import MAX_PAGE_SIZE, check_domain, refuse_page_token
from postroomd.rpc.cpu_pool import CpuPool
from postroomd.rpc.dkim import generate_dkim_key
from postroomd.rpc.methods import Rpc
from postroomd.storage.protocols.dkim import DkimRotations


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminDkimServicer:
    """The RPCs about DKIM keys. `selector` is what selectors of new keys begin with, `bits` the size of the keys."""

    rotations: DkimRotations
    pool: CpuPool
    selector: str
    bits: int
    overlap: timedelta
    clock: Callable[[], datetime]

    async def GetDkimKeys(self, request: pb.GetDkimKeysRequest, context: CallContext) -> DkimKeys:
        """Return the DKIM keys of a domain."""
        with checking() as check:
            subject = check_domain(check, request)
        return await self.rotations.find(await self._domain_id(subject))

    async def RotateDkimKey(self, request: pb.RotateDkimKeyRequest, context: CallContext) -> DkimKeys:
        """Begin, continue or complete the rotation of a domain's DKIM key."""
        with checking() as check:
            subject = check_domain(check, request)
            selector = check.canonical("selector", request.selector, _canonical_selector) if request.selector else ""
        keys = await self.rotations.find(await self._domain_id(subject))
        new_key = await self._new_key(keys.domain, selector) if needs_key(keys) else None
        now = self.clock()
        rule = partial(
            rotate_key,
            new_key=new_key,
            selector=selector,
            immediately=request.immediately,
            overlap=self.overlap,
            now=now,
        )
        return await self.rotations.rotate(context, keys.domain_id, rule, now)

    async def CancelDkimRotation(self, request: pb.CancelDkimRotationRequest, context: CallContext) -> DkimKeys:
        """Discard the next key of a domain's rotation."""
        with checking() as check:
            subject = check_domain(check, request)
        domain_id = await self._domain_id(subject)
        return await self.rotations.cancel(context, domain_id, require_cancelable, self.clock())

    async def ListDkimRotations(self, request: pb.ListDkimRotationsRequest, context: CallContext) -> Slice[DkimKeys]:
        """List the domains with a rotation in progress."""
        with checking() as check:
            limit = check.limit(request.page_size, MAX_PAGE_SIZE)
            if request.page_token and not is_uuid(request.page_token):
                refuse_page_token(check)
        return await self.rotations.list(request.page_token.lower(), limit)

    async def _new_key(self, domain: Domain, selector: str) -> NewDkimKey:
        """Return a new key of a domain. Raises InvalidArguments if the name of its record is too long."""
        now = self.clock()
        chosen = selector or new_selector(self.selector, now, token_hex(2))
        length = len(dkim_record(domain.name, chosen, "")[0].removesuffix("."))
        if length > MAX_DOMAIN_NAME:
            message = (
                f"must be shorter: the record of {chosen} would have a name of {length} octets,"
                f" and {MAX_DOMAIN_NAME} are possible"
            )
            raise InvalidArguments([Violation("selector", Reason.CONSTRAINT, message)])
        (pair,) = await self.pool.run(domain.organization_id, [partial(generate_dkim_key, self.bits)])
        record = next_record(domain, chosen, pair.public_base64, record_id=str(uuid4()), now=now)
        return NewDkimKey(selector=chosen, private_pem=pair.private_pem, record=record)

    async def _domain_id(self, subject: str) -> str:
        """Return the id of the domain that an id or a canonical name names: of several, the one that owns the name.

        Raises NotFound, and InvalidArguments if none of several owns it.
        """
        if is_uuid(subject):
            return subject
        domains = await self.rotations.domains_named(subject)
        if not domains:
            raise NotFound("domain", subject)
        owners = [domain for domain in domains if domain.status in OWNING_STATUSES] or domains
        if len(owners) > 1:
            ids = ", ".join(domain.id for domain in owners)
            message = f"several organizations registered this name, and none owns it: set domain_id to one of {ids}"
            raise InvalidArguments([Violation("name", Reason.CONSTRAINT, message)])
        return owners[0].id

    def rpcs(self) -> Mapping[str, Rpc]:
        """Return the RPCs by name."""
        return {
            "GetDkimKeys": Rpc(self.GetDkimKeys, convert.dkim_keys_message),
            "RotateDkimKey": Rpc(self.RotateDkimKey, convert.dkim_keys_message),
            "CancelDkimRotation": Rpc(self.CancelDkimRotation, convert.dkim_keys_message),
            "ListDkimRotations": Rpc(self.ListDkimRotations, convert.dkim_rotations_message),
        }


def _canonical_selector(text: str) -> str:
    """Return a selector in lower case. Raises ValueError."""
    try:
        selector = canonical_host_name(text)
    except ValueError:
        raise ValueError("must be one or several DNS labels, such as `mail-2026`") from None
    if len(selector) > MAX_SELECTOR:
        raise ValueError(f"must have at most {MAX_SELECTOR} characters")
    return selector
