"""What all tables share: naming of constraints, types of columns, defaults of the database."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    DateTime,
    Double,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

EMPTY_JSON = text("'{}'::jsonb")
NEW_ID = text("gen_random_uuid()")
NEW_ID_BY_TIME = text("signal_pipeline_new_id()")
CLOCK = text("clock_timestamp()")

# A UUID of version 7 (RFC 9562): milliseconds since 1970, then random bits. Postgres has uuidv7() from 18 on only; two
# bits turn the version of a random one, 4, into 7.
MAKE_NEW_ID = """
CREATE FUNCTION signal_pipeline_new_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT CAST(encode(set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send(CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS bigint)) FROM 3)
                FROM 1 FOR 6),
        52, 1), 53, 1), 'hex') AS uuid)
$$
"""


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads it once
        str: Text,
        float: Double,
        datetime: DateTime(timezone=True),
        UUID: Uuid,
        dict[str, Any]: JSONB,
        bytes: LargeBinary,
    }
