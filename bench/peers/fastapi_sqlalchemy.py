"""A typical implementation of GET mailbox: FastAPI, SQLAlchemy's async ORM over aiosqlite, uvicorn.

It reads the same table and returns the same response. One path authenticates by API key and restricts the query to the
tenant, as Postroom does; the other path does neither.
"""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from postroomd.domain.keys import hash_secret
from postroomd.storage import schema as t

sessions = async_sessionmaker(create_async_engine(os.environ["PEER_DATABASE_URL"]), expire_on_commit=False)


class Base(DeclarativeBase):
    """The declarative base on Postroom's schema."""

    metadata = t.metadata


class Key(Base):
    """An API key."""

    __table__ = t.api_keys


class Mailbox(Base):
    """A mailbox."""

    __table__ = t.mailboxes

    @property
    def etag(self) -> str:
        """The entity tag, which changes with each revision."""
        return f"{self.__dict__['revision']:x}"


class MailboxResponse(BaseModel):
    """A mailbox as it is returned."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    project_id: str
    organization_id: str
    domain_id: str
    email: str
    status: str
    subscription_period: str
    subscription_period_started_at: datetime
    next_subscription_period: str
    next_subscription_period_starts_at: datetime | None
    created_at: datetime
    updated_at: datetime
    deletion_scheduled_at: datetime | None
    etag: str


async def session() -> AsyncIterator[AsyncSession]:
    """A session for one request."""
    async with sessions() as new_session:
        yield new_session


Session = Annotated[AsyncSession, Depends(session)]


async def organization_id(session: Session, x_auth_token: Annotated[str, Header()]) -> str:
    """Return the organization of the request's API key. Raises HTTPException."""
    key: Any = await session.scalar(select(Key).where(t.api_keys.c.secret_prefix == hash_secret(x_auth_token)[:8]))
    if key is None:
        raise HTTPException(401)
    return str(key.organization_id)


async def get_mailbox(mailbox_id: str, session: Session, organization: Annotated[str, Depends(organization_id)]) -> Any:
    """Return a mailbox of the caller's organization."""
    statement = select(Mailbox).where(t.mailboxes.c.id == mailbox_id, t.mailboxes.c.organization_id == organization)
    return await session.scalar(statement) or _raise_not_found()


async def get_unauthenticated_mailbox(mailbox_id: str, session: Session) -> Any:
    """Return a mailbox without authentication."""
    return await session.get(Mailbox, mailbox_id) or _raise_not_found()


def _raise_not_found() -> Any:
    raise HTTPException(404)


app = FastAPI()
app.add_api_route("/mailbox/v1alpha1/mailboxes/{mailbox_id}", get_mailbox, response_model=MailboxResponse)
app.add_api_route("/open/mailboxes/{mailbox_id}", get_unauthenticated_mailbox, response_model=MailboxResponse)
