from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, select

from core.store.tables import UtcDateTime

times = Table("times", MetaData(), Column("id", Integer, primary_key=True), Column("at", UtcDateTime))


def stored(value: datetime | None) -> datetime | None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        times.create(connection)
        connection.execute(insert(times).values(at=value))
        found = connection.execute(select(times.c.at)).scalar()
    engine.dispose()
    return found


def test_a_time_comes_back_in_utc_from_whatever_zone_it_had() -> None:
    berlin = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    found = stored(berlin)
    assert found == berlin
    assert found is not None
    assert found.tzinfo == UTC
    assert stored(None) is None


def test_a_time_without_a_zone_is_a_mistake() -> None:
    with pytest.raises(Exception, match="times are stored with their zone"):
        stored(datetime(2026, 1, 1))
