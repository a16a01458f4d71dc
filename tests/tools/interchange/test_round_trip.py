"""In and out again: nothing is lost, nobody's properties are changed, nothing comes in twice."""

from __future__ import annotations

import mailbox
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.tools.interchange.eml import read_letter
from mlx_tinyagent.tools.interchange.files import import_path
from mlx_tinyagent.tools.interchange.ics import read_calendar, write_calendar
from mlx_tinyagent.tools.interchange.load import TABLES, load
from mlx_tinyagent.tools.interchange.markdown import read_page, write_page
from mlx_tinyagent.tools.interchange.records import Event, Page, Person, Todo
from mlx_tinyagent.tools.interchange.save import save
from mlx_tinyagent.tools.interchange.vcf import read_cards, write_card
from mlx_tinyagent.tools.local import Store, memory_world, snapshot

pytest.importorskip("icalendar")

BERLIN = ZoneInfo("Europe/Berlin")
CARD = (
    "BEGIN:VCARD\r\nVERSION:4.0\r\nUID:urn:uuid:1\r\nFN;X-A=1:Ann \\, PhD\r\nN:Lee;Ann;;;\r\n"
    "item1.EMAIL;TYPE=work:a@x.example\r\nitem1.X-ABLabel:_$!<Home>!$_\r\n"
    "TEL;VALUE=uri:tel:+1-212-555\r\nORG:Acme\\, Inc;Unit\r\nNICKNAME:Annie,Bo\r\n"
    'X-UNKNOWN;P="q:r;s":zz\\;z\r\nPHOTO;ENCODING=b;TYPE=JPEG:AAAA\r\n BBBB\r\nEND:VCARD\r\n'
)
CALENDAR = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\nX-WR-CALNAME:Wörk\r\n"
    "BEGIN:VTIMEZONE\r\nTZID:Europe/Berlin\r\nX-LIC:1\r\nEND:VTIMEZONE\r\n"
    "BEGIN:VEVENT\r\nUID:1\r\nDTSTART;TZID=Europe/Berlin:20260305T100000\r\nDURATION:PT1H\r\n"
    "SUMMARY;LANGUAGE=de:A\\, b\\nc\r\nX-FOO;BAR=1:x\\,y\r\n"
    'ATTENDEE;CN="A, b: c":mailto:a@x.example\r\nRRULE:FREQ=DAILY;COUNT=3\r\n'
    "BEGIN:VALARM\r\nSUMMARY:in\r\nTRIGGER:-PT5M\r\nEND:VALARM\r\nEND:VEVENT\r\n"
    "BEGIN:VEVENT\r\nUID:1\r\nRECURRENCE-ID:20260306T090000Z\r\nDTSTART:20260306T100000Z\r\n"
    "SUMMARY:moved\r\nEND:VEVENT\r\n"
    "BEGIN:VTODO\r\nUID:t\r\nSUMMARY:x\r\nDUE;VALUE=DATE:20260301\r\nPRIORITY:5\r\n"
    "X-ODD:1\r\nEND:VTODO\r\nEND:VCALENDAR\r\n"
)
PAGE = '---\ntitle: "A: b"\ntags: [x, y]\n# odd\n---\nBody\n\n* one\n'


def test_an_untouched_card_is_written_back_as_it_was() -> None:
    """Every character, folds and unknown properties included."""
    (person,) = read_cards(CARD.encode()).records
    assert isinstance(person, Person)
    assert write_card(person) == CARD
    assert (person.name, person.company) == ("Ann , PhD", "Acme, Inc")
    assert person.phones == ("+1-212-555",)


def test_a_changed_card_changes_only_there() -> None:
    """New values are in it, and every other line is the old one."""
    (person,) = read_cards(CARD.encode()).records
    assert isinstance(person, Person)
    changed = replace(person, company="New; Co", emails=("b@x.example", *person.emails))
    text = write_card(changed)
    (again,) = read_cards(text.encode()).records
    assert replace(again, text="") == replace(changed, text="")
    gone, new = set(CARD.split("\r\n")) - set(text.split("\r\n")), set(text.split("\r\n"))
    assert gone == {"ORG:Acme\\, Inc;Unit"}
    assert {"ORG:New\\; Co;Unit", "EMAIL:b@x.example"} == new - set(CARD.split("\r\n"))


def test_vobject_reads_the_same() -> None:
    """A second reader finds the same names and addresses in new cards."""
    vobject = pytest.importorskip("vobject")
    person = Person(
        uid="u",
        text="",
        name="Ann, Lee; \\x",
        company="A;B",
        emails=("a@x.example",),
        phones=("1",),
    )
    card = vobject.readOne(write_card(person))
    assert card.fn.value == person.name
    assert card.org.value == ["A;B"]
    assert card.email.value == "a@x.example"


def test_an_untouched_calendar_keeps_every_component() -> None:
    """Zones, rules, alarms, exceptions and unknown properties come back as they were."""
    found = read_calendar(CALENDAR.encode(), BERLIN)
    event, todo = found.records
    assert isinstance(event, Event)
    assert isinstance(todo, Todo)
    assert (event.title, event.starts, event.ends) == (
        "A, b\nc",
        "2026-03-05T10:00:00",
        "2026-03-05T11:00:00",
    )
    assert (todo.due, todo.all_day, todo.priority, todo.list_name) == (
        "2026-03-01",
        True,
        5,
        "Wörk",
    )
    written = write_calendar("Wörk", [event, todo], BERLIN)
    body = CALENDAR.partition("X-WR-CALNAME:Wörk\r\n")[2]
    assert written.endswith(body)


def test_a_changed_event_changes_only_there() -> None:
    """A new time takes the place of start and length; alarms and rules stay."""
    event, todo = read_calendar(CALENDAR.encode(), BERLIN).records
    assert isinstance(event, Event)
    assert isinstance(todo, Todo)
    moved = replace(event, title="New", starts="2026-07-05T12:00:00", ends="2026-07-05T13:00:00")
    late = replace(todo, due="2026-03-02T08:00:00", all_day=False, done=True)
    text = write_calendar("Wörk", [moved, late], BERLIN)
    again, done = read_calendar(text.encode(), BERLIN).records
    assert replace(again, text="") == replace(moved, text="")
    assert replace(done, text="") == replace(late, text="")
    assert "DTSTART:20260705T100000Z" in text  # summer time in Berlin
    assert "DURATION" not in text
    for kept in ("RRULE:FREQ=DAILY;COUNT=3", "TRIGGER:-PT5M", "X-FOO;BAR=1:x\\,y", "X-ODD:1"):
        assert kept in text


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("DTSTART;TZID=Europe:20260305T100000", "cannot be read"),
        ("DTSTART;TZID=../../etc/passwd:20260305T100000", "odd time zone"),
        ("DTSTART;TZID=Moon/Base:20260305T100000", "unknown time zone"),
        ("DTSTART:tomorrow", "cannot be read"),
        ("DTSTART:", "cannot be read"),
        ("X-NO:1", "no start"),
    ],
)
def test_a_start_that_cannot_be_read_is_never_guessed(start: str, words: str) -> None:
    """The entry is left out and named; the others come in."""
    text = CALENDAR.replace("DTSTART;TZID=Europe/Berlin:20260305T100000", start, 1)
    found = read_calendar(text.encode(), BERLIN)
    assert words in found.skipped[0].reason
    assert [type(record) for record in found.records] == [Todo]


@pytest.mark.parametrize(
    ("lines", "starts", "ends"),
    [
        ("DTSTART:20260305T100000", "2026-03-05T10:00:00", "2026-03-05T10:01:00"),
        ("DTSTART:20260305T100000Z", "2026-03-05T11:00:00", "2026-03-05T11:01:00"),
        ("DTSTART;VALUE=DATE:20260305", "2026-03-05T00:00:00", "2026-03-06T00:00:00"),
        (
            "DTSTART;TZID=W. Europe Standard Time:20260705T100000\r\nDURATION:P1D",
            "2026-07-05T10:00:00",
            "2026-07-06T10:00:00",
        ),
        (
            "DTSTART;TZID=America/New_York:20260705T100000\r\nDTEND:20260705T150000Z",
            "2026-07-05T16:00:00",
            "2026-07-05T17:00:00",
        ),
    ],
)
def test_times_become_local(lines: str, starts: str, ends: str) -> None:
    """UTC, floating, zoned, in Windows' names, and whole days."""
    text = f"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n{lines}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    (event,) = read_calendar(text.encode(), BERLIN).records
    assert isinstance(event, Event)
    assert (event.starts, event.ends) == (starts, ends)


def test_a_note_keeps_its_front_matter() -> None:
    """Untouched it is the same file; with a new text the unknown lines are still there."""
    (page,) = read_page(PAGE.encode(), folder="Work").records
    assert isinstance(page, Page)
    assert (page.name, page.folder, page.body) == ("A: b", "Work", "Body\n\n* one\n")
    assert write_page(page, "Work") == PAGE
    changed = write_page(replace(page, body="Else", name='Q "x"'))
    (again,) = read_page(changed.encode()).records
    assert isinstance(again, Page)
    assert (again.name, again.folder, again.body) == ('Q "x"', "Work", "Else")
    assert "\ntags: [x, y]\n# odd\n" in changed
    assert "folder: Else" in write_page(replace(page, folder="Else"), "Work").replace('"', "")


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=30)
LINE = TEXT.map(lambda text: " ".join(text.split())).filter(bool)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(name=LINE, company=TEXT, values=st.lists(LINE, max_size=3, unique=True))
def test_any_contact_comes_back(name: str, company: str, values: list[str]) -> None:
    """Whatever the texts hold, a new card is read as what was written."""
    names = tuple(values)
    person = Person(uid="u", text="", name=name, company=company.strip(), nicknames=names)
    (again,) = read_cards(write_card(person).encode()).records
    assert replace(again, text="") == person


@settings(max_examples=60, deadline=None, derandomize=True)
@given(title=LINE, location=TEXT, notes=TEXT, minutes=st.integers(1, 10**6))
def test_any_event_comes_back(title: str, location: str, notes: str, minutes: int) -> None:
    """A new event is read as what was written, to the minute, in a zone with summer time."""
    from datetime import datetime, timedelta

    start = datetime(2026, 1, 1) + timedelta(minutes=minutes)
    if start.isoformat()[:13] in ("2026-03-29T02", "2027-03-28T02"):  # there is no such hour
        start += timedelta(hours=2)
    event = Event(
        uid="u",
        text="",
        title=title,
        starts=start.isoformat(),
        ends=(start + timedelta(days=3, minutes=1)).isoformat(),
        location=location,
        notes=notes,
        calendar="C",
    )
    (again,) = read_calendar(write_calendar("C", [event], BERLIN).encode(), BERLIN).records
    assert replace(again, text="") == event


# The whole store


def tables(store: Store) -> dict[str, list[Any]]:
    """Return what a store holds of people, dates, mails and notes, without row numbers."""
    found = snapshot(store)
    names = ("calendars", "reminder_lists", "note_folders")
    places = {table: {row["id"]: row["name"] for row in found[table]} for table in names}
    links = {"calendar_id": "calendars", "list_id": "reminder_lists", "folder_id": "note_folders"}
    result: dict[str, list[Any]] = {}
    for table in (*TABLES.values(), "contact_emails", "contact_phones", "event_invitees"):
        rows = []
        for row in found[table]:
            values = {
                key: places[links[key]][value] if key in links else value
                for key, value in row.items()
                if key not in ("id", "contact_id", "event_id", "source_id", "kind")
            }
            rows.append(sorted(map(str, values.items())))
        result[table] = sorted(rows)
    return result


def test_the_world_goes_out_and_comes_in(tmp_path: Path) -> None:
    """Everything of world v1, through real files and the child process, into an empty store."""
    folder = tmp_path / "out"
    with memory_world() as store, Store.memory() as empty:
        store.insert("drafts", {"kind": "new", "subject": "Höllo", "body": "A\n.\nFrom x\n"})
        store.insert(
            "draft_recipients", {"draft_id": 1, "position": 0, "role": "to", "email": "a@x.example"}
        )
        saved = save(store, folder)
        assert saved.left_out == ()
        done = import_path(empty, folder)
        assert done.problems == ()
        assert done.loaded.added == {
            "contact": 75,
            "event": 25,
            "reminder": 12,
            "mail": 30,
            "note": 15,
            "draft": 1,
        }
        ours, theirs = tables(store), tables(empty)
        for table in ours:
            if table == "drafts":  # a mail's text ends with a line break
                continue
            assert ours[table] == theirs[table], table
        (draft,) = empty.rows("SELECT subject, body FROM drafts")
        assert (draft["subject"], draft["body"]) == ("Höllo", "A\n.\nFrom x")

        assert import_path(empty, folder).loaded.added == {}
        assert import_path(store, folder).loaded.added == {}
        second = tmp_path / "again"
        save(empty, second)
        files = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        again = {p.relative_to(second): p.read_bytes() for p in second.rglob("*") if p.is_file()}
        assert files.keys() == again.keys()
        changed = [str(name) for name, content in files.items() if again[name] != content]
        assert changed == []
    modes = {path.stat().st_mode & 0o077 for path in folder.rglob("*")}
    assert modes == {0}


def test_other_readers_understand_what_goes_out(tmp_path: Path) -> None:
    """The standard library reads the Maildir, icalendar and vobject the rest."""
    import icalendar

    with memory_world() as store:
        save(store, tmp_path / "out")
    box = mailbox.Maildir(tmp_path / "out/mail/inbox", create=False)
    assert len(box) == 30
    assert all(message["Message-ID"] and message["Date"] for message in box)
    events = [
        part
        for path in (tmp_path / "out/calendars").glob("*.ics")
        for part in icalendar.Calendar.from_ical(path.read_bytes()).walk("VEVENT")
    ]
    assert len(events) == 25
    vobject = pytest.importorskip("vobject")
    cards = vobject.readComponents((tmp_path / "out/contacts.vcf").read_text("utf-8"))
    assert sum(1 for card in cards if card.fn.value) == 75


def test_an_original_is_written_back_and_goes_with_its_row(tmp_path: Path) -> None:
    """An imported mail comes out byte for byte; a deleted row takes its original along."""
    raw = b"From: =?x-odd?q?=FF?= <a@x.example>\nSubject: S\nX-Odd: \xff\n\nText\xe9\n"
    (letter,) = read_letter(raw).records
    with Store.memory() as store:
        load(store, [letter])
        save(store, tmp_path / "out")
        (path,) = (tmp_path / "out/mail/inbox/cur").iterdir()
        assert path.read_bytes() == raw
        store.rows("DELETE FROM mails")
        assert store.rows("SELECT * FROM originals") == []


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    """An export never mixes with what is there."""
    from mlx_tinyagent.errors import StoreError

    (tmp_path / "mine").write_text("x")
    with Store.memory() as store, pytest.raises(StoreError, match="not empty"):
        save(store, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
