"""What is wrong with a document by more than one of its parts: a name that nothing has, a key that two callers have.

These checks read the tree and not the models, so that they are made even where another part of it is not valid.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

from ._clients import ONLY_SOME_TAKE, OURS
from ._document import CATALOG_SECTIONS
from ._findings import Place, listed
from ._models import BUILT_IN_RUNNER_POLICIES, BUILT_IN_RUNTIME_POLICIES
from ._validation import Text


def check_references(text: Text, clients: Collection[str]) -> None:
    """Note every reference that leads nowhere, every name that is taken twice, and a catalog that is nowhere."""
    _check_catalog(text)
    for name in text.mapping(("providers",)):
        _check_provider(text, ("providers", name), clients)
    for name in text.mapping(("models",)):
        _check_model(text, ("models", name))
    _check_callers(text)
    _check_host(text)


def _check_catalog(text: Text) -> None:
    """A document without models takes the whole catalog from its store, so there must be one that is kept."""
    written = text.mapping(())
    if "models" in written:
        return
    given = [section for section in CATALOG_SECTIONS if section in written]
    if given:
        text.refuse(("models",), f"is required where {listed(given)} are written", found="nothing")
    elif text.mapping(("store",)).get("url", "memory:") == "memory:":
        text.refuse(("models",), "is required unless store.url names a database that has them", found="nothing")


def _check_provider(text: Text, place: Place, clients: Collection[str]) -> None:
    provider = text.mapping(place)
    client = provider.get("client")
    if not isinstance(client, str):
        return
    if client not in clients:
        text.refuse((*place, "client"), f"is not a known client; allowed: {listed(clients)}", known=clients)
    elif client in OURS:
        _check_settings(text, place, client, set(provider))


def _check_settings(text: Text, place: Place, client: str, given: set[str]) -> None:
    """One of our clients is told what it wants, and nothing that it would ignore."""
    wants = OURS[client]
    if wants.any_of and not any(key in given for key in (*wants.any_of, *wants.unless)):
        where = f" where {wants.unless[0]} is left out" if wants.unless else ""
        text.refuse((*place, wants.any_of[0]), f"is required{where}", found="nothing")
    for key in sorted(given):
        if key == "options" or (key in ONLY_SOME_TAKE and key not in wants.takes):
            text.refuse((*place, key), f"means nothing to the client {client}; leave it out")
        wanted = wants.beside.get(key, ())
        if wanted and given.isdisjoint(wanted):
            text.refuse((*place, wanted[0]), f"is required where {key} is given", found="nothing")
        for other in given & {*wants.apart.get(key, ())}:
            text.refuse((*place, key), f"means nothing beside {other}; leave one of them out")


def _check_model(text: Text, place: Place) -> None:
    _check_name(text, (*place, "runner_policy"), "runner_policies", BUILT_IN_RUNNER_POLICIES)
    first: dict[str, Place] = {}
    for index, candidate in enumerate(text.items((*place, "candidates"))):
        if not isinstance(candidate, dict):
            continue
        here = (*place, "candidates", index)
        _check_name(text, (*here, "provider"), "providers", ())
        _check_name(text, (*here, "runtime_policy"), "runtime_policies", BUILT_IN_RUNTIME_POLICIES)
        _check_unique(text, (*here, "id"), first)


def _check_name(text: Text, place: Place, section: str, built_in: Collection[str]) -> None:
    name = text.at(place)
    named = text.mapping(()).get(section, {})
    if not isinstance(name, str) or not isinstance(named, dict):
        return
    known = [*text.mapping((section,)), *built_in]
    if name not in known:
        text.refuse(place, f"names nothing under {section}; known: {listed(known)}", known=known)


def _check_callers(text: Text) -> None:
    names: dict[str, Place] = {}
    secrets: dict[str, Place] = {}
    models = text.mapping(()).get("models")
    for index, _ in enumerate(text.items(("server", "keys"))):
        here: Place = ("server", "keys", index)
        _check_unique(text, (*here, "name"), names)
        _check_unique(text, (*here, "key"), secrets)
        for at, model in enumerate(text.items((*here, "models"))):
            if isinstance(model, str) and isinstance(models, dict) and model not in models:
                known = list(text.mapping(("models",)))
                text.refuse((*here, "models", at), f"names nothing under models; known: {listed(known)}", known=known)
    _check_unique(text, ("server", "admin_key"), secrets)


def _check_unique(text: Text, place: Place, first: dict[str, Place]) -> None:
    value = text.at(place)
    if not isinstance(value, str) or not value:
        return
    taken = first.setdefault(value, place)
    if taken != place:
        text.refuse(place, f"must be unique; it is the same as {text.fields.path(taken)}")


def _check_host(text: Text) -> None:
    """Without callers' keys everybody may call, so the server binds to loopback only."""
    host = text.mapping(("server",)).get("host")
    if isinstance(host, str) and not text.mapping(("server",)).get("keys") and not _is_loopback(host):
        text.refuse(
            ("server", "host"), "must be a loopback address (127.0.0.1, ::1, localhost) where no keys are given"
        )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
