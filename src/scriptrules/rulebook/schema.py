"""The JSON schema of declarative rules, for editors: made from what the compiler of the form goes by.

It says less than the compiler (`scriptrules check` has the last word), but nothing else: what it refuses, so does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scriptrules.jobs import TEXT, TEXTS, JobType
from scriptrules.model import NAME, NAME_MAX
from scriptrules.rulebook.control import CATCH_UP, FULL, LIMIT_MAX, RETRIES_MAX
from scriptrules.rulebook.declarative import KEYS, OUTCOMES, REFERENCES, RESULT
from scriptrules.rulebook.index import PATTERN

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TEXT: Schema = {"type": ["string", "number", "boolean"]}  # a scalar that is taken as it is written
_NAMES: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
_REFERENCE: Schema = {"$ref": "#/$defs/reference"}


def schema_of(types: Mapping[str, JobType]) -> Schema:
    """The schema of a declarative rule, with these job types."""
    properties = _metadata() | {
        "description": {"type": "string", "description": "What the rule is for."},
        "type": {"enum": sorted(types), "description": "A job type: what is to be started."},
        "body": {"type": "object", "description": "What the job is given."},
        "call": {"$ref": "#/$defs/name", "description": "The procedure to call; `then` gets its value."},
        "data": {"$ref": "#/$defs/fields", "description": "What the procedure is given; default: the task's data."},
        "then": {"$ref": "#/$defs/then", "description": "The tasks that follow."},
    }
    return {
        "$schema": DIALECT,
        "title": "A declarative rule of scriptrules",
        "type": "object",
        "properties": {key: properties[key] for key in KEYS},
        "additionalProperties": False,
        "anyOf": [{"required": ["type", "body"]}, {"required": ["call"]}, {"required": ["then"]}],
        "not": {"required": ["type", "call"]},
        "dependentRequired": {"body": ["type"], "data": ["call"], "type": ["body"]},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"properties": {"body": {"$ref": f"#/$defs/{name}"}}},
            }
            for name in sorted(types)
        ],
        "$defs": _definitions() | {name: _body(types[name]) for name in sorted(types)},
    }


def _metadata() -> dict[str, Schema]:
    pattern = {"type": "string", "pattern": _anchored(PATTERN.pattern), "maxLength": NAME_MAX}
    boolean, seconds = {"type": "boolean"}, {"type": "number", "minimum": 0}
    count = {"type": "integer", "minimum": 0, "maximum": RETRIES_MAX}
    return {
        "on": {
            "anyOf": [pattern, {"type": "array", "items": pattern, "minItems": 1}],
            "description": "The names of the tasks it matches: * is one segment, ** any number of them.",
        },
        "when": {"type": "string", "description": 'A condition in which `task` is the task: task["size"] > 0'},
        "nomatch": {**boolean, "description": "Considered only where nothing else matches."},
        "priority": {"type": "integer", "description": "Higher first; the default is 0."},
        "final": {**boolean, "description": "A match leaves out rules of lower priority."},
        "retries": {
            "anyOf": [
                count,
                _object({"max": count, "backoff": seconds, "backoff_max": seconds, "jitter": seconds}, ["max"]),
            ],
            "description": "How many further attempts what failed gets.",
        },
        "timeout": {"type": "number", "exclusiveMinimum": 0, "description": "Seconds that a run may take."},
        "limit": {
            **_object(
                {
                    "max": {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX},
                    "key": {"type": "string"},
                    "full": {"enum": list(FULL)},
                },
                ["max"],
            ),
            "description": "How many runs at once, perhaps for each value of a field.",
        },
        "schedule": {
            "anyOf": [
                {"type": "string"},
                _object({"cron": {"type": "string"}, "catch_up": {"enum": list(CATCH_UP)}}, ["cron"]),
            ],
            "description": "When it runs by itself, as a cron expression in quotes.",
        },
        "enabled": {**boolean, "description": "Whether it is considered at all."},
    }


def _definitions() -> dict[str, Schema]:
    task = _object({"task": {"$ref": "#/$defs/name"}, "data": {"$ref": "#/$defs/fields"}}, ["task"])
    one = {"anyOf": [{"$ref": "#/$defs/name"}, task]}
    tasks = {"anyOf": [one, {"type": "array", "items": {"$ref": "#/$defs/tasks"}}]}
    branch = _object({outcome: {"$ref": "#/$defs/tasks"} for outcome in OUTCOMES}, []) | {"minProperties": 1}
    then = [one, _object({"branch": branch}, ["branch"]), {"type": "array", "items": {"$ref": "#/$defs/then"}}]
    return {
        "name": {"type": "string", "pattern": _anchored(NAME.pattern), "maxLength": NAME_MAX},
        "tasks": tasks,
        "then": {"anyOf": then},
        "reference": {"anyOf": [_reference(kind) for kind in REFERENCES]},
        "value": {"anyOf": [_REFERENCE, {}]},
        "fields": {"anyOf": [_REFERENCE, {"type": "object", "additionalProperties": {"$ref": "#/$defs/value"}}]},
    }


def _reference(kind: str) -> Schema:
    if kind == "literal":
        return _object({"type": {"const": kind}, "value": {}}, ["type", "value"])
    if kind == "result":
        return _object({"type": {"const": kind}, "name": {"enum": list(RESULT)}}, ["type", "name"])
    required = ["type"] if kind == "output" else ["type", "name"]
    return _object({"type": {"const": kind}, "name": _NAMES, "default": {}}, required)


def _body(kind: JobType) -> Schema:
    properties: dict[str, Schema] = {}
    for key, wanted in kind.keys.items():
        if key == "action":
            properties[key] = {"enum": list(kind.actions)}
        elif key in TEXTS:
            item = {"anyOf": [_TEXT, _REFERENCE]}
            inner = {"items": item} if wanted == "array" else {"additionalProperties": item}
            properties[key] = {"anyOf": [_REFERENCE, {"type": wanted, **inner}]}
        else:
            properties[key] = {"anyOf": [_TEXT if wanted == TEXT else {"type": wanted}, _REFERENCE]}
    return {**_object(properties, list(kind.required)), "description": kind.doc}


def _object(properties: Mapping[str, Schema], required: list[str]) -> Schema:
    found: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return found | ({"required": required} if required else {})


def _anchored(pattern: str) -> str:
    """A pattern of ours as JSON Schema has them."""
    return f"^{pattern.removesuffix('Z').removesuffix(chr(92))}$"
