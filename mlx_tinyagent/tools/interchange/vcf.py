"""Contacts as vCards (RFC 6350; 2.1 and 3.0 are read too)."""

from __future__ import annotations

from dataclasses import replace

from mlx_tinyagent.tools.interchange.lines import (
    Component,
    components,
    decoded,
    edited,
    escape,
    fold,
    kept,
    made_uid,
    parts,
    unescape,
)
from mlx_tinyagent.tools.interchange.records import MAX_RECORDS, Content, Person, Skipped


def read_cards(content: bytes) -> Content:
    """Read a ``.vcf`` file.

    Raises:
        InterchangeError: It is no vCard file.
    """
    records: list[Person] = []
    skipped: list[Skipped] = []
    for entry, card in enumerate(components(decoded(content))[:MAX_RECORDS], start=1):
        person = _person(card) if card.name == "VCARD" else None
        if person is None:
            skipped.append(Skipped(entry=entry, reason=f"a {card.name} without a name"))
        else:
            records.append(person)
    return Content(records=tuple(records), skipped=tuple(skipped))


def write_card(person: Person) -> str:
    """Write one card: as it was read where nothing changed, else with the changes in it.

    Args:
        person: The contact as it is now; ``text`` is the card it was read from, if any.
    """
    if not person.text:
        return _new(person)
    (card,) = components(person.text)
    before = _person(card)
    if before is not None and replace(before, uid=person.uid) == person:
        return person.text
    changes: dict[str, list[str]] = {}
    if before is None or before.name != person.name:
        changes["FN"] = [f"FN:{escape(person.name)}"]
    if before is None or before.company != person.company:
        rest = parts(card.value("ORG"), ";")[1:]
        changes["ORG"] = [f"ORG:{';'.join([escape(person.company), *rest])}"]
    if before is None or before.emails != person.emails:
        new = {address: f"EMAIL:{escape(address)}" for address in person.emails}
        changes["EMAIL"] = kept(card.properties("EMAIL"), new, _address)
    if before is None or before.phones != person.phones:
        new = {number: f"TEL:{escape(number)}" for number in person.phones}
        changes["TEL"] = kept(card.properties("TEL"), new, _number)
    if before is None or before.nicknames != person.nicknames:
        changes["NICKNAME"] = [_nickname(person)] if person.nicknames else []
    return edited(card, changes)


def _new(person: Person) -> str:
    words = person.name.split()
    family, given = (words[-1], " ".join(words[:-1])) if len(words) > 1 else ("", person.name)
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"UID:{escape(person.uid)}"]
    lines += [f"FN:{escape(person.name)}", f"N:{escape(family)};{escape(given)};;;"]
    lines += [f"ORG:{escape(person.company)}"] if person.company else []
    lines += [f"EMAIL:{escape(address)}" for address in person.emails]
    lines += [f"TEL:{escape(number)}" for number in person.phones]
    lines += [_nickname(person)] if person.nicknames else []
    return "\r\n".join(fold(line) for line in [*lines, "END:VCARD"]) + "\r\n"


def _nickname(person: Person) -> str:
    return f"NICKNAME:{','.join(escape(name) for name in person.nicknames)}"


def _person(card: Component) -> Person | None:
    """Read one card; None if it names nobody."""
    emails = [_address(found.value) for found in card.properties("EMAIL")]
    phones = [_number(found.value) for found in card.properties("TEL")]
    company = unescape(parts(card.value("ORG"), ";")[0]).strip()
    name = unescape(card.value("FN")).strip() or _structured(card.value("N")) or company
    if not name:
        return None
    return Person(
        uid=unescape(card.value("UID")).strip() or made_uid(card.text),
        text=card.text,
        name=name,
        company=company,
        emails=tuple(dict.fromkeys(filter(None, emails))),
        phones=tuple(dict.fromkeys(filter(None, phones))),
        nicknames=tuple(
            dict.fromkeys(
                nickname
                for found in card.properties("NICKNAME")
                for part in parts(found.value, ",")
                if (nickname := unescape(part).strip())
            )
        ),
    )


def _address(value: str) -> str:
    return unescape(value).strip()


def _number(value: str) -> str:
    """Return a phone number; version 4.0 writes it as a link."""
    text = unescape(value)
    head, colon, rest = text.partition(":")
    number = rest if colon and head.strip().lower() == "tel" else text
    return number.split(";")[0].strip()


def _structured(value: str) -> str:
    """Put a structured name together: given name, further names, family name."""
    family, given, further, *_ = [*map(unescape, parts(value, ";")), "", "", ""]
    return " ".join(filter(None, (given.strip(), further.strip(), family.strip())))
