"""Runs what docs/from-your-language.md shows, and then falls into each of its traps."""

import os
import uuid
from datetime import datetime

import outbox
from sqlalchemy import Text, create_engine, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Traps(DeclarativeBase):
    pass


class WithTime(Traps):
    """Maps a column that has a default."""

    __tablename__ = "event"
    __table_args__ = {"schema": "outbox"}

    event_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    topic: Mapped[str] = mapped_column(Text, default="orders")
    event_type: Mapped[str] = mapped_column(Text, default="Trap")
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Others(DeclarativeBase):
    pass


class WithJsonNull(Others):
    """Has a JSON column that takes None for JSON's null."""

    __tablename__ = "event"
    __table_args__ = {"schema": "outbox"}

    event_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    topic: Mapped[str] = mapped_column(Text, default="orders")
    event_type: Mapped[str] = mapped_column(Text, default="Trap")
    headers: Mapped[dict[str, str] | None] = mapped_column(JSONB)


engine = create_engine(os.environ["DATABASE"].replace("postgres://", "postgresql+psycopg://"))

with Session(engine) as session, session.begin():
    event_id = outbox.approve(session, "o-42", 1250)
print("event", event_id)


def trap(name, row):
    try:
        with Session(engine) as session, session.begin():
            session.add(row)
        print("trap", name, "none")
    except DBAPIError as error:
        diagnostic = error.orig.diag
        print("trap", name, diagnostic.sqlstate, diagnostic.constraint_name)


def event(**columns):
    return outbox.OutboxEvent(topic="orders", event_type="Trap", **columns)


trap("server-default", WithTime())
trap("json-null", WithJsonNull(headers=None))
trap("empty", event(key=""))
trap("right", event(headers=None))
