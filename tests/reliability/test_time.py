"""G28: a local time that does not exist, or comes twice, is said before anything is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.act.gate import Preview
from mlx_tinyagent.act.show import clock_change, moment, zone_name
from mlx_tinyagent.errors import RefusedError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.catalog import TINYAGENT16

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC",
         "America/Sao_Paulo", "Africa/Casablanca", "Pacific/Apia")  # fmt: skip
DAYS = (
    *(datetime(2026, 3, 29, 2, 30), datetime(2026, 10, 25, 2, 30), datetime(2026, 3, 8, 2, 30)),
    *(datetime(2026, 11, 1, 1, 30), datetime(2026, 12, 31, 23, 59), datetime(2027, 1, 1)),
    *(datetime(2028, 2, 29, 12), datetime(2026, 4, 5, 1, 45), datetime(2026, 10, 4, 2, 15)),
    *(datetime(2026, 6, 1, 9), datetime(2011, 12, 30, 12)),  # a day that Samoa skipped
)


@pytest.mark.parametrize("zone", ZONES)
def test_gaps_and_overlaps_are_said_and_nothing_else(
    zone: str, figure: Callable[[str, str], None]
) -> None:
    """Reckoned by another way: by what UTC moments a wall clock shows the time at."""
    place = ZoneInfo(zone)
    for local in DAYS:
        near = local.replace(tzinfo=UTC)
        shows = {
            offset
            for minutes in range(-27 * 60, 27 * 60, 15)
            if (at := near + timedelta(minutes=minutes)).astimezone(place).replace(tzinfo=None)
            == local
            for offset in [at]
        }
        said = clock_change(local, place)
        assert ("does not exist" in said) == (len(shows) == 0), (zone, local, said)
        assert ("comes twice" in said) == (len(shows) == 2), (zone, local, said)
        assert zone_name(local, place)
    if zone == ZONES[-1]:
        figure("G28", f"{len(ZONES) * len(DAYS)} local times in {len(ZONES)} zones: 0 wrong")


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine stands in Berlin."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_preview_has_weekday_and_the_zone_of_that_day(berlin: None) -> None:
    """Summer time in summer, whatever holds now."""
    now = datetime(2026, 3, 2, 9, 0)
    assert moment("2026-03-06T15:00:00", now) == "Friday 6 March 2026, 15:00 CET"
    assert moment("2026-07-06T15:00:00", now) == "Monday 6 July 2026, 15:00 CEST"
    assert moment("2026-07-06", now) == "Monday 6 July 2026 (all day)"
    assert moment("0001-01-01T00:00:00", now).startswith("Monday 1 January 1, 00:00")
    assert moment("9999-12-31T23:59:00", now).startswith("Friday 31 December 9999, 23:59")


def test_a_time_that_does_not_exist_needs_a_look(berlin: None, host: Host) -> None:
    """It is shown with a warning, which ``--yes`` does not cover."""
    shown: list[Preview] = []
    plan = parse('1. create_reminder("x", "2026-03-29T02:30:00")\n2. join()', TINYAGENT16)

    def look(preview: Preview) -> bool:
        shown.append(preview)
        return False

    with pytest.raises(RefusedError):
        run(plan, TINYAGENT16, host, Callbacks(approve=look))

    (warning,) = shown[0].warnings
    assert "02:30 does not exist" in warning
