"""A strict parser of RFC 8941 lists, as far as a trail needs it: items with parameters, no inner lists."""

import re

_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")
_STRING = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_INTEGER = re.compile(r"-?[0-9]{1,15}(?![0-9.])")
_COMMA = re.compile(r"[ \t]*,[ \t]*")


def parsed_list(text):
    """The members: each an item and its parameters, in order."""
    members, at = [], 0
    while True:
        item, at = _item(text, at)
        parameters, at = _parameters(text, at)
        members.append((item, parameters))
        if at == len(text):
            return members
        at = _expect(_COMMA, text, at).end()


def _parameters(text, at):
    parameters = {}
    while text[at : at + 1] == ";":
        key = _expect(_KEY, text, at + 1 + len(text[at + 1 :]) - len(text[at + 1 :].lstrip(" ")))
        parameters[key.group()] = True
        at = key.end()
        if text[at : at + 1] == "=":
            parameters[key.group()], at = _item(text, at + 1)
    return parameters, at


def _item(text, at):
    if text[at : at + 1] == '"':
        string = _expect(_STRING, text, at)
        return re.sub(r"\\(.)", r"\1", string[1]), string.end()
    if text[at : at + 1].isdecimal() or text[at : at + 1] == "-":
        integer = _expect(_INTEGER, text, at)
        return int(integer.group()), integer.end()
    token = _expect(_TOKEN, text, at)
    return token.group(), token.end()


def _expect(pattern, text, at):
    found = pattern.match(text, at)
    if found is None:
        raise ValueError(f"{text!r} is no list: {pattern.pattern} at {at}")
    return found
