"""The client of Postroom: channels with TLS, retries and idempotency keys, and errors decoded from google.rpc details.

    from postroom.client import channel, decode_error
    from postroom.v1alpha1.mailbox_service_pb2_grpc import MailboxServiceStub

    with channel("mail.example.org:9443", secret_key) as connection:
        mailboxes = MailboxServiceStub(connection)

`aio_channel` is the same for asyncio.
"""

from postroom.client.channels import aio_channel, channel
from postroom.client.errors import (
    ErrorDetails,
    FieldViolation,
    PreconditionViolation,
    QuotaViolation,
    Resource,
    decode_error,
)
from postroom.client.tls import TLS

__all__ = [
    "TLS",
    "ErrorDetails",
    "FieldViolation",
    "PreconditionViolation",
    "QuotaViolation",
    "Resource",
    "aio_channel",
    "channel",
    "decode_error",
]
__version__ = "0.1.0"
