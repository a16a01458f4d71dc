"""The address book through the Contacts framework; read only."""

from __future__ import annotations

from typing import Any

from mlx_tinyagent.tools.backend import Contact
from mlx_tinyagent.tools.external import BackendError
from mlx_tinyagent.tools.macos.frameworks import contact_store, framework
from mlx_tinyagent.tools.match import fold
from mlx_tinyagent.tools.results import Failed

_FIELDS = (
    *("CNContactGivenNameKey", "CNContactMiddleNameKey", "CNContactFamilyNameKey"),
    *("CNContactNicknameKey", "CNContactOrganizationNameKey", "CNContactEmailAddressesKey"),
    *("CNContactPhoneNumbersKey", "CNContactRelationsKey"),
)


def read_contacts() -> list[Contact]:
    """Return all contacts; relations of the user's own card ("mother") become nicknames.

    Raises:
        BackendError: There is no access.
    """
    store = contact_store()
    kit = framework("Contacts")
    keys = [getattr(kit, name) for name in _FIELDS]
    request = kit.CNContactFetchRequest.alloc().initWithKeysToFetch_(keys)
    found: list[Any] = []
    done, error = store.enumerateContactsWithFetchRequest_error_usingBlock_(
        request, None, lambda contact, stop: found.append(contact)
    )
    if not done:
        raise BackendError(Failed(reason=f"Contacts gave nothing: error {error.code()}"))
    me, _ = store.unifiedMeContactWithKeysToFetch_error_(keys, None)
    relations = _relations(me) if me is not None else {}
    people = [contact for contact in found if _name(contact)]
    return [_contact(number, item, relations) for number, item in enumerate(people, start=1)]


def _contact(number: int, item: Any, relations: dict[str, str]) -> Contact:
    name = _name(item)
    names = [str(item.nickname()), relations.get(fold(name), "")]
    return Contact(
        id=number,
        name=name,
        emails=_values(item.emailAddresses(), lambda value: str(value)),
        phones=_values(item.phoneNumbers(), lambda value: str(value.stringValue())),
        nicknames=tuple(dict.fromkeys(filter(None, names))),
        company=str(item.organizationName()),
    )


def _name(item: Any) -> str:
    parts = (str(item.givenName()), str(item.middleName()), str(item.familyName()))
    return " ".join(filter(None, parts)) or str(item.organizationName())


def _values(labeled: Any, read: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (read(item.value()) for item in labeled or ()))))


def _relations(me: Any) -> dict[str, str]:
    """Return what the user calls people, by folded name: ``_$!<Mother>!$_`` is ``Mother``."""
    found = {}
    for item in me.contactRelations() or ():
        label = str(item.label() or "")
        found[fold(str(item.value().name()))] = label.removeprefix("_$!<").removesuffix(">!$_")
    return found
