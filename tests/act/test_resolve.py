"""What plans write becomes what tools receive: dates, people, files, earlier results."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.act.resolve import Call, Choices, Prepared, fill, prepare, read_dates
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.plan.schema import Plan, Ref, Step, Template
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Arg, Kind, Span, Tool, ToolSet, Type, When, tool
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import Store
from mlx_tinyagent.tools.results import (
    Ambiguous,
    Candidate,
    Failed,
    NotFound,
    Ok,
    Origin,
    Result,
    Skipped,
    Value,
)

NOW = datetime(2026, 3, 2, 9, 0)  # a Monday
ReadWhen = Annotated[str, Arg(kind=Kind.WHEN, accepts=frozenset({Type.TEXT}))]
EVENT = TINYAGENT16["create_calendar_event"]


def plan(*lines: str) -> Plan:
    """Read a plan from its lines; numbers and join() are added."""
    numbered = [f"{number}. {line}" for number, line in enumerate((*lines, "join()"), start=1)]
    return parse("\n".join(numbered), TINYAGENT16)


def event_dates(start: str, end: str = "") -> dict[str, str]:
    """Read the dates of an event."""
    (step,) = plan(f'create_calendar_event("x", "{start}", "{end}")').steps
    return read_dates(step, EVENT, NOW).values


def one(host: Host, line: str, choices: Choices | None = None) -> Prepared | Result:
    """Prepare a plan of one step."""
    (step,) = plan(line).steps
    return prepare(step, TINYAGENT16[step.tool], host, {}, choices)


def value(text: str, **fields: str) -> Ok:
    """Make the result of a step."""
    return Ok(value=Value(text=text, fields=fields))


class TestDates:
    """Dates are read against an explicit now; an end is read with its start."""

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            ("tomorrow at 3pm", "", ("2026-03-03T15:00:00", None)),
            ("tomorrow", "", ("2026-03-03", None)),
            ("2026-03-05", "", ("2026-03-05", None)),
            ("2026-03-05 10:30", "", ("2026-03-05T10:30:00", None)),
            # the end of a range of times is the event's end
            ("tomorrow from 3 to 5pm", "", ("2026-03-03T15:00:00", "2026-03-03T17:00:00")),
            ("tomorrow at 3pm for an hour", "", ("2026-03-03T15:00:00", "2026-03-03T16:00:00")),
            # a range of days is no event that lasts for days
            ("next week", "", ("2026-03-09", None)),
            # a time alone belongs to the start's day
            ("tomorrow at 3pm", "5pm", ("2026-03-03T15:00:00", "2026-03-03T17:00:00")),
            ("tomorrow at 3pm", "4:30", ("2026-03-03T15:00:00", "2026-03-03T16:30:00")),
            # a day that is said counts from now, like the start's
            ("tomorrow at 3pm", "tomorrow at 5pm", ("2026-03-03T15:00:00", "2026-03-03T17:00:00")),
            ("friday at 3pm", "friday at 5pm", ("2026-03-06T15:00:00", "2026-03-06T17:00:00")),
            ("wednesday", "friday", ("2026-03-04", "2026-03-06")),
            # what would lie before the start counts from the start
            ("friday at 3pm", "an hour later", ("2026-03-06T15:00:00", "2026-03-06T16:00:00")),
            ("today at 3pm", "an hour later", ("2026-03-02T15:00:00", "2026-03-02T16:00:00")),
            ("friday", "tuesday", ("2026-03-06", "2026-03-10")),
            # a contradiction is not mended: the tool will refuse it
            ("tomorrow at 3pm", "tomorrow at 1pm", ("2026-03-03T15:00:00", "2026-03-03T13:00:00")),
            # a length
            ("tomorrow at 3pm", "90 minutes", ("2026-03-03T15:00:00", "2026-03-03T16:30:00")),
            ("tomorrow", "for two days", ("2026-03-03", "2026-03-05")),
            # past midnight
            ("today at 11pm", "1am", ("2026-03-02T23:00:00", "2026-03-03T01:00:00")),
        ],
    )
    def test_start_and_end(self, start: str, end: str, expected: tuple[str, str | None]) -> None:
        """The two belong together, whichever of them says the day."""
        dates = event_dates(start, end)

        assert (dates["start_date"], dates.get("end_date")) == expected

    @pytest.mark.parametrize("phrase", ["when pigs fly", "soonish", "the usual", "???"])
    def test_a_phrase_without_a_moment_is_never_now(self, host: Host, phrase: str) -> None:
        """The step says that there is no date; it has no value to run with."""
        found = one(host, f'create_reminder("milk", "{phrase}")')

        assert found == NotFound(what=f"date in '{phrase}'")

    @pytest.mark.parametrize(
        ("line", "phrase", "left"),
        [
            ('create_reminder("milk", "in a week friday")', "in a week friday", "friday"),
            ('create_reminder("milk", "friday or saturday")', "friday or saturday", "or saturday"),
            ('create_calendar_event("x", "3pm EST friday")', "3pm EST friday", "EST"),
            ('create_calendar_event("x", "at 3", "4pm or 5")', "4pm or 5", "or 5"),
            (
                'create_calendar_event("x", "at 3", "2 hours before Ana")',
                "2 hours before Ana",
                "Ana",
            ),
        ],
    )
    def test_a_phrase_is_never_read_in_part(
        self, host: Host, line: str, phrase: str, left: str
    ) -> None:
        """What is left over could mean another moment: the step does not run and says so."""
        found = one(host, line)

        assert found == Failed(
            reason=f"'{phrase}' can be read only in part as a date: '{left}' is left over; "
            "say it in other words"
        )

    def test_words_of_another_kind_between_a_day_and_its_time_are_no_part_of_it(self) -> None:
        """A request says "friday with Ana at 3"; the date is copied from it as one stretch."""
        assert event_dates("friday with Ana at 3") == {"start_date": "2026-03-06T15:00:00"}

    def test_an_unreadable_end_stops_the_step_as_well(self, host: Host) -> None:
        """Half of a date is no reason to guess the other half."""
        found = one(host, 'create_calendar_event("x", "tomorrow at 3", "when we are done")')

        assert found == NotFound(what="date in 'when we are done'")

    def test_a_start_that_is_needed_and_empty_is_not_found(self, host: Host) -> None:
        """An event without a start asks for one; a reminder without a date is a reminder."""
        assert one(host, 'create_calendar_event("x", "")') == NotFound(
            what="start date in the request"
        )
        assert isinstance(one(host, 'create_reminder("milk", "")'), Prepared)

    def test_a_list_of_dates_is_read_item_by_item(self, host: Host) -> None:
        """Tools of others may take several dates."""

        @tool
        def poll(days: list[When]) -> str:
            """Ask for a day."""
            return " ".join(days)

        step = Step(1, "poll", (("tomorrow", "friday at 3pm"),))
        bad = Step(1, "poll", (("tomorrow", "whenever it rains"),))

        found = prepare(step, poll, host, {})
        assert isinstance(found, Prepared)
        assert found.args["days"] == ("2026-03-03", "2026-03-06T15:00:00")
        assert prepare(bad, poll, host, {}) == NotFound(what="date in 'whenever it rains'")
        half = Step(1, "poll", (("tomorrow", "friday or saturday"),))
        assert "'or saturday' is left over" in str(prepare(half, poll, host, {}))


class TestPeople:
    """A name where an address or number is expected is looked up, never guessed."""

    def test_a_name_becomes_the_address_of_one_person(self, host: Host) -> None:
        """The value is the address; the label says whose it is."""
        found = one(host, 'compose_new_email(["Sarah"], [], "Hi")')

        assert isinstance(found, Prepared)
        (address,) = found.args["recipients"]  # type: ignore[misc]
        assert "@" in str(address)
        assert found.labels[str(address)] == f"Sarah Smith <{address}>"
        assert found.origin is Origin.STORE

    @pytest.mark.parametrize("address", ["a.b@c.example", "ÄÖ@x.example"])
    def test_an_address_stays_as_written(self, host: Host, address: str) -> None:
        """What the user wrote in full needs no contact."""
        found = one(host, f'compose_new_email(["{address}"], [], "Hi")')

        assert isinstance(found, Prepared)
        assert found.args["recipients"] == (address,)
        assert found.origin is Origin.USER

    def test_a_number_stays_as_written(self, host: Host) -> None:
        """Blanks and signs are part of a number."""
        found = one(host, 'send_sms(["+1 (555) 010-2233"], "hi")')

        assert isinstance(found, Prepared)
        assert found.args["recipients"] == ("+1 (555) 010-2233",)

    def test_an_unknown_name_is_not_found(self, host: Host) -> None:
        """The whole step stops; its other arguments are not used."""
        found = one(host, 'compose_new_email(["Sarah", "Zaphod"], [], "Hi")')

        assert found == NotFound(what="contact 'Zaphod'")

    def test_a_name_of_two_people_is_ambiguous(self, host: Host) -> None:
        """Without anybody to ask, the candidates are the outcome."""
        found = one(host, 'send_sms(["David"], "hi")')

        assert isinstance(found, Ambiguous)
        assert [candidate.label.split(" (")[0] for candidate in found.candidates] == [
            "David Levy",
            "David Mensah",
        ]

    def test_the_one_that_is_chosen_is_used(self, host: Host) -> None:
        """The label is the person's name, without what told the namesakes apart."""
        asked: list[Ambiguous] = []

        def second(unclear: Ambiguous) -> Candidate:
            asked.append(unclear)
            return unclear.candidates[1]

        choices = Choices(second)
        first = one(host, 'compose_new_email(["David"], [], "Hi")', choices)
        again = one(host, 'send_sms(["David"], "hi")', choices)

        assert isinstance(first, Prepared)
        assert isinstance(again, Prepared)
        assert next(iter(first.labels.values())).startswith("David Mensah <")
        assert next(iter(again.labels.values())).startswith("David Mensah <+")
        assert len(asked) == 1  # the same name means the same person within one request

    def test_none_of_them_is_an_answer_too(self, host: Host) -> None:
        """It is asked once, and the step stays ambiguous."""
        asked: list[Ambiguous] = []
        choices = Choices(lambda unclear: asked.append(unclear))  # type: ignore[func-returns-value]

        assert isinstance(one(host, 'send_sms(["David"], "hi")', choices), Ambiguous)
        assert isinstance(one(host, 'send_sms(["David"], "ho")', choices), Ambiguous)
        assert len(asked) == 1

    def test_a_chosen_person_without_a_number_is_not_found(self, store: Store, host: Host) -> None:
        """A choice does not invent what the contact does not have."""
        store.rows(
            "DELETE FROM contact_phones WHERE contact_id = "
            "(SELECT id FROM contacts WHERE name = 'David Levy')"
        )
        found = one(host, 'send_sms(["David"], "hi")', Choices(lambda a: a.candidates[0]))

        assert found == NotFound(what="phone of David Levy")

    def test_the_same_person_twice_is_one_recipient(self, host: Host) -> None:
        """By name or by address, in the order of the first mention."""
        both = one(host, 'compose_new_email(["Sarah", "Sarah Smith"], [], "Hi")')

        assert isinstance(both, Prepared)
        assert len(both.args["recipients"]) == 1  # type: ignore[arg-type]


class TestFiles:
    """A file is one of the index, or the question which one."""

    def test_a_name_becomes_the_path(self, host: Host) -> None:
        """The label adds the size."""
        found = one(host, 'reply_to_email([], "", ["Annual Report"])')

        assert isinstance(found, Prepared)
        (path,) = found.args["attachments"]  # type: ignore[misc]
        assert str(path).endswith("/Work/Annual Report.pdf")
        assert found.labels[str(path)].endswith(" bytes)")

    def test_unknown_and_unclear_files(self, host: Host) -> None:
        """A file is never taken because it is the only one that is a little alike."""
        assert one(host, 'summarize_pdf("Tax Return 2031")') == NotFound(
            what="file 'Tax Return 2031'"
        )
        assert isinstance(one(host, 'summarize_pdf("Report")'), Ambiguous)


class TestSubstitution:
    """Only a reference is replaced: once, as a value, and never again."""

    LINES = (
        'get_email_address("Sarah")',
        'create_note("n", "pay $15 and $1 to ${1}, see ${1.name}")',
    )

    def prepared(self, host: Host, results: dict[int, Result]) -> Prepared | Result:
        """Prepare the note of the plan."""
        step = plan(*self.LINES).steps[1]
        return prepare(step, TINYAGENT16["create_note"], host, results)

    def test_text_that_looks_like_a_reference_stays_text(self, host: Host) -> None:
        """A price and a bare ``$1`` inside a text are words."""
        found = self.prepared(host, {1: value("s@x.example", name="Sarah Smith")})

        assert isinstance(found, Prepared)
        assert found.args["content"] == "pay $15 and $1 to s@x.example, see Sarah Smith"

    def test_a_result_that_looks_like_a_reference_stays_what_it_is(self, host: Host) -> None:
        """What is put in is not read again, neither before a step runs nor when it does."""
        results: dict[int, Result] = {1: value("$2 ${1} ${9.name}", name="${1}")}
        early = self.prepared(host, results)
        late = self.prepared(host, {})

        assert isinstance(early, Prepared)
        assert isinstance(late, Prepared)
        assert late.pending == (1,)
        expected = "pay $15 and $1 to $2 ${1} ${9.name}, see ${1}"
        for found in (early, late):
            call = fill(found, results)
            assert isinstance(call, Call)
            assert call.args["content"] == expected

    @settings(deadline=None)  # a busy machine is no fault of a text's
    @given(text=st.text(alphabet='$1{}2.name "\\\n', max_size=30))
    def test_any_result_arrives_unchanged(self, text: str) -> None:
        """Whatever characters it has."""
        step = Step(2, "write", (Ref(1), Template(("<", Ref(1), "|", Ref(1, "f"), ">"))))
        prepared = Prepared(step=2, tool=_two_texts(), args={"a": step.args[0], "b": step.args[1]})

        call = fill(prepared, {1: value(text, f=text)})

        assert isinstance(call, Call)
        assert call.args == {"a": text, "b": f"<{text}|{text}>"}

    def test_lists_none_numbers_and_flags_pass_through(self, host: Host) -> None:
        """Nothing becomes text on the way; repeated numbers stay repeated."""

        @tool
        def mixed(numbers: list[int], flag: bool, share: float, text: Span | None = None) -> str:
            """Take some of everything."""
            return ""

        step = Step(1, "mixed", ((1, 1, 2), True, 0.5, None))
        found = prepare(step, mixed, host, {})
        assert isinstance(found, Prepared)
        call = fill(found, {})

        assert isinstance(call, Call)
        assert call.args == {"numbers": [1, 1, 2], "flag": True, "share": 0.5, "text": None}

    def test_a_list_mixes_values_and_references(self, host: Host) -> None:
        """Each item by itself; two that turn out the same person are one."""
        steps = plan(
            'get_email_address("Sarah")',
            'compose_new_email(["$1", "jo@x.example", "Sarah Smith"], [], "Hi")',
        ).steps
        known = one(host, 'compose_new_email(["Sarah"], [], "x")')
        assert isinstance(known, Prepared)
        (address,) = known.args["recipients"]  # type: ignore[misc]
        found = prepare(steps[1], TINYAGENT16[steps[1].tool], host, {})
        assert isinstance(found, Prepared)

        call = fill(found, {1: value(str(address))})

        assert isinstance(call, Call)
        assert call.args["recipients"] == [address, "jo@x.example"]

    @pytest.mark.parametrize(
        "lost", [NotFound(what="x"), Failed(reason="secret@evil.example"), Skipped(reason="no")]
    )
    def test_a_step_without_a_value_gives_no_text(self, host: Host, lost: Result) -> None:
        """Its dependant does not run, and no error text ever becomes an argument."""
        late = self.prepared(host, {})
        assert isinstance(late, Prepared)

        assert self.prepared(host, {1: lost}) == Skipped(reason="step 1 gave no value")
        assert fill(late, {1: lost}) == Skipped(reason="step 1 gave no value")

    def test_a_field_that_is_missing_fails(self, host: Host) -> None:
        """It is not replaced by the whole value."""
        found = self.prepared(host, {1: value("s@x.example")})

        assert found == Failed(reason="step 1 gave no name")

    def test_the_lowest_trust_wins(self, host: Host) -> None:
        """A call is as trustworthy as the least of what went in."""
        late = self.prepared(host, {})
        assert isinstance(late, Prepared)
        tainted = Ok(value=Value(text="x", fields={"name": "y"}, origin=Origin.UNTRUSTED))

        call = fill(late, {1: tainted})

        assert isinstance(call, Call)
        assert call.origin is Origin.UNTRUSTED

    def test_what_is_prepared_cannot_be_changed(self, host: Host) -> None:
        """Neither the step nor its arguments: what was shown is what runs."""
        found = one(host, 'create_note("n", "text")')
        assert isinstance(found, Prepared)

        with pytest.raises(TypeError):
            found.args["content"] = "other"  # type: ignore[index]
        with pytest.raises(dataclasses.FrozenInstanceError):
            found.step = 2  # type: ignore[misc]


def _two_texts() -> Tool:
    @tool(returns=Type.TEXT)
    def two(a: str, b: str) -> str:
        """Take two texts."""
        return a + b

    return two


def test_a_date_that_is_a_result_stays_text(host: Host) -> None:
    """Only phrases of the request are read as dates; a result is handed on as it is."""

    @tool(returns=Type.TEXT)
    def pair(first: str, second: ReadWhen) -> str:
        """Take a text and a date."""
        return first + second

    tools = ToolSet("pair", [pair])
    steps = parse('1. pair("a", "tomorrow")\n2. pair("b", "$1")\n3. join()', tools).steps

    found = prepare(steps[1], pair, host, {1: value("tomorrow")})

    assert isinstance(found, Prepared)
    assert found.args["second"] == "tomorrow"


class TestNamesThatToolsLookUp:
    """What a tool would look up itself is made definite before, so that a preview shows it."""

    def test_a_file_becomes_its_path_and_size(self, host: Host) -> None:
        """Written loosely, it is the indexed file."""
        step = one(host, 'open_and_get_file_path("lease agreement")')

        assert isinstance(step, Prepared)
        path = step.args["file_name"]
        assert path == "/demo-files/Lease Agreement.pdf" or str(path).endswith("Agreement.pdf")
        assert step.labels[str(path)].endswith("bytes)")

    def test_a_note_is_shown_with_its_folder(self, host: Host) -> None:
        """One note of that name keeps its name."""
        step = one(host, 'append_note_content("shopping list", "eggs")')

        assert isinstance(step, Prepared)
        assert step.args["name"] == "Shopping List"
        assert step.labels["Shopping List"] == "Shopping List (Notes)"

    @pytest.mark.parametrize("tool_name", ["open_note", "append_note_content"])
    def test_two_notes_of_one_name_are_asked_about(self, host: Host, tool_name: str) -> None:
        """The one that is chosen is the one that the tool finds."""
        more = ', "more"' if tool_name == "append_note_content" else ""
        line = f'{tool_name}("Meeting Notes"{more})'

        unclear = one(host, line)
        step = one(host, line, Choices(lambda asked: asked.candidates[1]))

        assert isinstance(unclear, Ambiguous)
        assert isinstance(step, Prepared)
        assert str(step.args["name"]).endswith("/Meeting Notes")

    def test_what_is_not_there_is_known_before(self, host: Host) -> None:
        """A note or a file."""
        assert isinstance(one(host, 'append_note_content("No such note", "x")'), NotFound)
        assert isinstance(one(host, 'open_and_get_file_path("No such file")'), NotFound)


def test_an_argument_that_holds_text_of_others_names_the_step(host: Host) -> None:
    """By argument, so that a warning can say which."""
    whole = plan('open_note("Shopping List")', 'maps_open_location("$1")')
    read = Ok(value=Value(text="a place", origin=Origin.UNTRUSTED))

    step = prepare(whole.steps[1], TINYAGENT16["maps_open_location"], host, {1: read})

    assert isinstance(step, Prepared)
    assert step.sources == {"location": (1,)}
    assert step.origin is Origin.UNTRUSTED
