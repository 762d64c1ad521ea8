"""GET of one mailbox as people usually write it: FastAPI, SQLAlchemy's async ORM over aiosqlite, uvicorn.

The same table, and the same answer. Once with the key looked up in the database and the tenant in the query, as
Postroom has it, and once without either.
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
    """What is mapped."""

    metadata = t.metadata


class Key(Base):
    """An API key."""

    __table__ = t.api_keys


class Mailbox(Base):
    """A mailbox."""

    __table__ = t.mailboxes

    @property
    def etag(self) -> str:
        """Changes with every change of it."""
        return f"{self.__dict__['revision']:x}"


class MailboxAnswer(BaseModel):
    """A mailbox as it is answered."""

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
    async with sessions() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


async def organization_id(session: Session, x_auth_token: Annotated[str, Header()]) -> str:
    """The organization of the key that the request carries."""
    key: Any = await session.scalar(select(Key).where(t.api_keys.c.secret_prefix == hash_secret(x_auth_token)[:8]))
    if key is None:
        raise HTTPException(401)
    return str(key.organization_id)


async def get_mailbox(mailbox_id: str, session: Session, organization: Annotated[str, Depends(organization_id)]) -> Any:
    """One mailbox of the caller's."""
    found = select(Mailbox).where(t.mailboxes.c.id == mailbox_id, t.mailboxes.c.organization_id == organization)
    return await session.scalar(found) or _not_found()


async def get_open_mailbox(mailbox_id: str, session: Session) -> Any:
    """One mailbox, whoever asks."""
    return await session.get(Mailbox, mailbox_id) or _not_found()


def _not_found() -> Any:
    raise HTTPException(404)


app = FastAPI()
app.add_api_route("/mailbox/v1alpha1/mailboxes/{mailbox_id}", get_mailbox, response_model=MailboxAnswer)
app.add_api_route("/open/mailboxes/{mailbox_id}", get_open_mailbox, response_model=MailboxAnswer)
