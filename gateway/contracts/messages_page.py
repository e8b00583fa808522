"""The page of all messages: the AsyncAPI document as HTML, made here, without a script and without a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Json = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #888; --mark: #0a7d5b }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem 1.5rem 4rem }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem } h3 { margin: 1.75rem 0 0 }
code { font: 0.92em ui-monospace, monospace } p { margin: 0.25rem 0 } a { color: var(--mark) }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top }
td, th { border-bottom: 1px solid var(--line); padding: 0.2rem 0.75rem 0.2rem 0 } .faint { color: var(--faint) }
"""


def page_of(document: Json) -> str:
    """The whole page. The document is our own; what it says is escaped all the same."""
    info = document["info"]
    channels = "".join(_channel(name, each, document) for name, each in document["channels"].items())
    schemas = "".join(_schema(name, each) for name, each in sorted(document["components"]["schemas"].items()))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}: the messages</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])}: the messages</h1><p>{escape(info['description'])}</p>"
        f'<p><a href="/schema/asyncapi.json">AsyncAPI {escape(document["asyncapi"])}</a> · '
        f'<a href="/docs">the HTTP API</a></p>'
        f"<h2>Channels</h2>{channels}<h2>Schemas</h2>{schemas}</body></html>\n"
    )


def _channel(name: str, channel: Json, document: Json) -> str:
    address = channel["address"] or "a reply's inbox"
    said = "".join(
        f"<p><b>{'sent' if each['action'] == 'send' else 'taken'}</b>: {escape(each['summary'])}"
        f"{_answered(each, document)}</p>"
        for each in document["operations"].values()
        if each["channel"]["$ref"] == f"#/channels/{name}"
    )
    places = "".join(
        f'<p class="faint"><code>{escape(place)}</code>: {escape(each["description"])}</p>'
        for place, each in channel.get("parameters", {}).items()
    )
    messages = "".join(_message(document["components"]["messages"][each]) for each in channel["messages"])
    what = escape(channel["description"])
    return f'<h3 id="{escape(name)}"><code>{escape(address)}</code></h3><p>{what}</p>{places}{said}{messages}'


def _answered(operation: Json, document: Json) -> str:
    reply = operation.get("reply")
    if reply is None:
        return ""
    (message,) = document["channels"][_last(reply["channel"]["$ref"])]["messages"]
    return f" Answered by {_type(document['components']['messages'][message]['payload'])}."


def _message(message: Json) -> str:
    headers = "".join(
        f'<p class="faint">header <code>{escape(name)}</code>: {escape(each.get("description", ""))}</p>'
        for name, each in message.get("headers", {}).get("properties", {}).items()
    )
    return f"<p>{escape(message['summary'])} {_type(message['payload'])}</p>{headers}"


def _schema(name: str, schema: Json) -> str:
    anchor = f'<h3 id="schema-{escape(name)}"><code>{escape(name)}</code></h3>'
    said = f"<p>{escape(schema['description'])}</p>" if "description" in schema else ""
    if "properties" not in schema:
        return f"{anchor}{said}<p>{_type(schema)}</p>"
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code></td><td>{_type(each)}</td>"
        f'<td class="faint">{escape(", ".join(_limits(each, field in required)))}</td></tr>'
        for field, each in schema["properties"].items()
    )
    return f"{anchor}{said}<table>{rows}</table>"


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to those that it names."""
    if "$ref" in schema:
        name = _last(schema["$ref"])
        return f'<a href="#schema-{escape(name)}"><code>{escape(name)}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {_type(schema['items'])}" if "items" in schema else "array"
    return escape(str(schema.get("format") or schema.get("type") or "anything"))


def _limits(schema: Mapping[str, Any], required: bool) -> Iterator[str]:
    if not required:
        yield "may be left out"
    for key, said in _LIMITS.items():
        if key in schema:
            yield f"{said} {schema[key]}"


_LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "minLength": "characters, at least",
    "maxLength": "characters, at most",
    "minItems": "items, at least",
    "maxItems": "items, at most",
    "pattern": "matches",
}


def _last(reference: str) -> str:
    return reference.rpartition("/")[2]
