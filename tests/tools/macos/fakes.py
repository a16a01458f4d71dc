"""What stands in for a Mac in the tests: the frameworks, and the scripts' applications in Node."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from mlx_tinyagent.tools.local.world import World
from mlx_tinyagent.tools.macos import runner as runner_module
from mlx_tinyagent.tools.macos.runner import Finished, ScriptError

HOST = Path(__file__).with_name("jxa_host.js")
SCRIPTS = runner_module.SCRIPTS


class Node:
    """A Node process that runs scripts against recording applications."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen(
            [program, str(HOST)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._worlds = itertools.count()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "Node has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask_many(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Send requests in one go and return their answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"".join(json.dumps(r).encode() + b"\n" for r in requests))
        self._process.stdin.flush()
        return [json.loads(self._process.stdout.readline()) for _ in requests]

    def new_world(self) -> int:
        """Return the number of applications that nobody has used yet."""
        return next(self._worlds)

    def world(self, content: World | None = None) -> int:
        """Make applications, with the mails and notes of a world in them."""
        number = self.new_world()
        data = content or {}
        mails = [
            {
                "id": place,
                "sender": f"{mail['sender_name']} <{mail['sender']}>",
                "subject": mail["subject"],
                "content": mail["body"],
                "received": 1_770_000_000 + place,
            }
            for place, mail in enumerate(data.get("mails", ()), start=1)
        ]
        notes = [dict(note) for note in data.get("notes", ())]
        self.ask({"world": number, "fill": {"mails": mails, "notes": notes}})
        return number

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@dataclass
class FakeRunner:
    """Runs the real scripts in Node instead of ``osascript``, and answers for ``mdfind``.

    Attributes:
        calls: Everything the applications were told, as (name, argument).
        fail: The next fault, as ``jxa_host.js`` takes it.
        ending: How the next program ends: ``exit``, or cut off after its effect.
    """

    node: Node
    world: int
    files: list[str] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    fail: dict[str, Any] | None = None
    ending: str = "exit"
    deadline_s: float = 1
    first_s: float = 1
    used: set[str] = field(default_factory=set)

    def script(self, name: str, payload: Mapping[str, Any], *, writes: bool) -> Any | ScriptError:
        """Run a script as the real runner does, up to the program itself."""
        request = {
            "world": self.world,
            "script": str(SCRIPTS / f"{name}.js"),
            "argv": [json.dumps(payload)],
            "fail": self.fail,
        }
        answer = self.node.ask(request)
        self.calls += [tuple(call) for call in answer["calls"]]
        self.unknown = answer["unknown"]
        ending, self.ending = (self.ending, "exit") if writes else ("exit", self.ending)
        done = Finished(ending=ending, stdout=answer["output"].encode())  # type: ignore[arg-type]
        return runner_module._read(done, writes=writes)

    def run(self, *argv: str, deadline_s: float = 0) -> Finished:
        """Answer as Spotlight does."""
        assert argv[0] == "mdfind"
        return Finished(ending="exit", stdout="\0".join(self.files).encode())


# The frameworks


class Thing:
    """An object of a framework: ``setX_`` sets what ``x()`` gives; both are noted."""

    def __init__(self, **values: Any) -> None:
        self.__dict__["values"] = values
        self.__dict__["alarms"] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("set") and name.endswith("_"):
            key = name[3:-1]
            key = key if key.isupper() else key[0].lower() + key[1:]
            return lambda value: self.values.__setitem__(key, value)
        return lambda: self.values.get(name)

    def addAlarm_(self, alarm: Any) -> None:  # noqa: N802 - Apple's name
        """Keep an alarm."""
        self.alarms.append(alarm)

    def allowsContentModifications(self) -> bool:  # noqa: N802
        """Whether things can be added."""
        return bool(self.values.get("writable", True))


@dataclass
class EventData:
    """What EventKit holds."""

    status: dict[int, int] = field(default_factory=lambda: {0: 3, 1: 3})
    grant: bool = True
    calendars: dict[int, list[Thing]] = field(default_factory=lambda: {0: [], 1: []})
    events: list[Thing] = field(default_factory=list)
    reminders: list[Thing] = field(default_factory=list)
    refuse: bool = False
    asked: list[str] = field(default_factory=list)


def event_kit(data: EventData) -> ModuleType:
    """Make a module that stands in for EventKit."""

    class EKEventStore:  # the class and its methods have Apple's names
        @classmethod
        def alloc(cls) -> EKEventStore:
            return cls()

        def init(self) -> EKEventStore:
            return self

        @staticmethod
        def authorizationStatusForEntityType_(entity: int) -> int:  # noqa: N802
            return data.status[entity]

        def requestFullAccessToEventsWithCompletion_(self, done: Callable[..., None]) -> None:  # noqa: N802
            data.asked.append("events")
            done(data.grant, None)

        def requestFullAccessToRemindersWithCompletion_(self, done: Callable[..., None]) -> None:  # noqa: N802
            data.asked.append("reminders")
            done(data.grant, None)

        def calendarsForEntityType_(self, entity: int) -> list[Thing]:  # noqa: N802
            return data.calendars[entity]

        def defaultCalendarForNewEvents(self) -> Thing | None:  # noqa: N802
            return next(iter(data.calendars[0]), None)

        def defaultCalendarForNewReminders(self) -> Thing | None:  # noqa: N802
            return next(iter(data.calendars[1]), None)

        def predicateForEventsWithStartDate_endDate_calendars_(  # noqa: N802
            self, start: Thing, end: Thing, calendars: Any
        ) -> tuple[float, float]:
            return start.seconds(), end.seconds()

        def eventsMatchingPredicate_(self, span: tuple[float, float]) -> list[Thing] | None:  # noqa: N802
            start, end = span
            found = [
                event
                for event in data.events
                if event.startDate().seconds() < end and event.endDate().seconds() > start
            ]
            return found or None

        def predicateForRemindersInCalendars_(self, calendars: Any) -> None:  # noqa: N802
            return None

        def fetchRemindersMatchingPredicate_completion_(  # noqa: N802
            self, predicate: None, done: Callable[[Any], None]
        ) -> None:
            done(list(data.reminders) or None)

        def saveEvent_span_commit_error_(  # noqa: N802
            self, event: Thing, span: int, commit: bool, error: None
        ) -> tuple[bool, Any]:
            if data.refuse:
                return False, Thing(domain="EKErrorDomain", code=1)
            data.events.append(event)
            return True, None

        def saveReminder_commit_error_(  # noqa: N802
            self, reminder: Thing, commit: bool, error: None
        ) -> tuple[bool, Any]:
            if data.refuse:
                return False, Thing(domain="EKErrorDomain", code=1)
            data.reminders.append(reminder)
            return True, None

        def saveCalendar_commit_error_(  # noqa: N802
            self, calendar: Thing, commit: bool, error: None
        ) -> tuple[bool, Any]:
            data.calendars[1].append(calendar)
            return True, None

        def removeEvent_span_commit_error_(  # noqa: N802
            self, event: Thing, span: int, commit: bool, error: None
        ) -> tuple[bool, Any]:
            data.events.remove(event)
            return True, None

        def removeReminder_commit_error_(  # noqa: N802
            self, reminder: Thing, commit: bool, error: None
        ) -> tuple[bool, Any]:
            data.reminders.remove(reminder)
            return True, None

    module = ModuleType("EventKit")
    module.__dict__.update(
        EKEventStore=EKEventStore,
        EKEvent=SimpleNamespace(eventWithEventStore_=lambda store: Thing()),
        EKReminder=SimpleNamespace(reminderWithEventStore_=lambda store: Thing()),
        EKCalendar=SimpleNamespace(calendarForEntityType_eventStore_=lambda entity, store: Thing()),
        EKAlarm=SimpleNamespace(alarmWithAbsoluteDate_=lambda date: Thing(date=date)),
    )
    return module


def foundation() -> ModuleType:
    """Make a module that stands in for Foundation."""

    def date(seconds: object) -> Thing:
        assert isinstance(seconds, float), "a date is a number"
        return Thing(seconds=seconds)

    module = ModuleType("Foundation")
    module.__dict__.update(
        NSDate=SimpleNamespace(dateWithTimeIntervalSince1970_=date),
        NSURL=SimpleNamespace(URLWithString_=lambda text: Thing(absoluteString=text)),
        NSDateComponents=SimpleNamespace(alloc=lambda: SimpleNamespace(init=Thing)),
    )
    return module


def contacts_kit(world: World, *, status: int = 3, grant: bool = True) -> ModuleType:
    """Make a module that stands in for Contacts."""
    people = []
    for contact in world["contacts"]:
        given, _, family = contact["name"].rpartition(" ")
        people.append(
            Thing(
                givenName=given,
                middleName="",
                familyName=family,
                nickname=next(iter(contact["nicknames"]), ""),
                organizationName=contact["company"],
                emailAddresses=[Thing(value=address) for address in contact["emails"]],
                phoneNumbers=[Thing(value=Thing(stringValue=n)) for n in contact["phones"]],
            )
        )
    relation = Thing(label="_$!<Mother>!$_", value=Thing(name=world["contacts"][0]["name"]))

    class CNContactStore:
        @classmethod
        def alloc(cls) -> CNContactStore:
            return cls()

        def init(self) -> CNContactStore:
            return self

        @staticmethod
        def authorizationStatusForEntityType_(entity: int) -> int:  # noqa: N802
            return status

        def requestAccessForEntityType_completionHandler_(  # noqa: N802
            self, entity: int, done: Callable[..., None]
        ) -> None:
            done(grant, None)

        def enumerateContactsWithFetchRequest_error_usingBlock_(  # noqa: N802
            self, request: Any, error: None, block: Callable[[Thing, None], None]
        ) -> tuple[bool, None]:
            for person in people:
                block(person, None)
            return True, None

        def unifiedMeContactWithKeysToFetch_error_(  # noqa: N802
            self, keys: Any, error: None
        ) -> tuple[Thing, None]:
            return Thing(contactRelations=[relation]), None

    module = ModuleType("Contacts")
    request = SimpleNamespace(initWithKeysToFetch_=lambda keys: keys)
    module.__dict__.update(
        CNContactStore=CNContactStore,
        CNContactFetchRequest=SimpleNamespace(alloc=lambda: request),
        __getattr__=lambda name: name,
    )
    for name in ("GivenName", "MiddleName", "FamilyName", "Nickname", "OrganizationName"):
        setattr(module, f"CNContact{name}Key", name)
    for name in ("EmailAddresses", "PhoneNumbers", "Relations"):
        setattr(module, f"CNContact{name}Key", name)
    return module


def event_data(world: World) -> EventData:
    """Return EventKit's content for a world: its calendars and lists, empty."""
    data = EventData()
    data.calendars[0] = [Thing(title=name) for name in world["calendars"]]
    data.calendars[1] = [Thing(title=name, source="local") for name in world["reminder_lists"]]
    return data


def install(patch: Any, modules: Mapping[str, ModuleType]) -> None:
    """Let frameworks be found as modules as long as a patch lasts."""
    for name, module in modules.items():
        patch.setitem(sys.modules, name, module)


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file that may not be there yet."""
    yield from path.read_text().splitlines() if path.exists() else ()
