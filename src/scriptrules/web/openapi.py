"""The API as an OpenAPI 3.1 document, made of the declarations that serve requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import UnionType
from typing import Any, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import __version__
from scriptrules.web.answers import Page, Problem, answer
from scriptrules.web.gate import COOKIE
from scriptrules.web.operations import Operation

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
Schema = dict[str, Any]


def describe(operations: list[Operation]) -> Operation:
    """The operation that answers with the document of these and itself."""
    described: list[bytes] = []

    async def get(_: Request) -> Response:
        if not described:
            described.append(msgspec.json.encode(document([*operations, itself])))
        return answer(msgspec.Raw(described[0]))

    itself = Operation("GET", "/openapi.json", get, "This document.", answer=dict[str, Any], role="anyone")
    return itself


def document(operations: Iterable[Operation]) -> Schema:
    """The OpenAPI document of operations."""
    operations = list(operations)
    types: dict[Any, None] = {Problem: None}
    for operation in operations:
        for kind in (operation.answer, operation.items, operation.body):
            types.update(dict.fromkeys(part for part in _parts(kind) if part is not Page))
    schemas, components = msgspec.json.schema_components(list(types), ref_template=_REF, schema_hook=_anything)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, Schema] = {}
    for operation in operations:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "scriptrules", "version": __version__, "summary": "Tasks, rules and runs."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
    }


def _anything(_: type) -> Schema:
    """The schema of what is any JSON, such as `object`."""
    return {"description": "Any JSON."}


def _operation(operation: Operation, schema_of: dict[Any, Schema]) -> Schema:
    problem = {"application/problem+json": {"schema": schema_of[Problem]}}
    success: Schema = {"description": operation.summary}
    if operation.answer is not None:
        success["content"] = {operation.media: {"schema": _answer(operation, schema_of)}}
    elif operation.media != "application/json":
        success["content"] = {operation.media: {"schema": {"type": "string"}}}
    if operation.or_media is not None:
        success["content"][operation.or_media] = {"schema": {"type": "string"}}
    described: Schema = {
        "operationId": _PARAMETER.sub(r"by-\1", f"{operation.method.lower()}{operation.path}").replace("/", "-"),
        "summary": operation.summary,
        "tags": [next(iter(operation.path.removeprefix("/api").strip("/").split("/")))],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": {
            str(operation.status): success,
            "4XX": {"description": "It was refused, with why and what to do.", "content": problem},
            "503": {"description": "Not now: the store or a worker is missing.", "content": problem},
        },
        "security": [] if operation.role == "anyone" else [{"token": []}, {"session": []}],
        "x-role": operation.role,
    }
    if operation.body is not None:
        body = _either(operation.body, schema_of)
        described["requestBody"] = {
            "content": {
                kind: {"schema": body if "ndjson" not in kind else {"type": "string"}} for kind in operation.takes
            },
            "required": not _may_be_empty(operation.body),
        }
    return described


def _answer(operation: Operation, schema_of: dict[Any, Schema]) -> Schema:
    if operation.answer is not Page:
        return _either(operation.answer, schema_of)
    items = _either(operation.items, schema_of) if operation.items is not None else {}
    return {
        "type": "object",
        "properties": {"items": {"type": "array", "items": items}, "next": {"type": ["string", "null"]}},
        "required": ["items", "next"],
    }


def _path_parameters(operation: Operation) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(operation.path)
    ]


def _query_parameters(operation: Operation) -> list[Schema]:
    if operation.query is None:
        return []
    (_,), components = msgspec.json.schema_components([operation.query], ref_template=_REF, schema_hook=_anything)
    described = components[operation.query.__name__]
    required = described.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _given(schema)}
        for name, schema in described["properties"].items()
    ]


def _given(schema: Schema) -> Schema:
    """What a parameter is where it is given: null cannot be written in a URL."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**rest, **kinds[0]} if kinds else {**rest}


def _may_be_empty(body: Any) -> bool:
    """Whether a request without a body is one: it counts as an empty object."""
    try:
        msgspec.json.decode(b"{}", type=body)
    except msgspec.ValidationError:
        return False
    return True


def _either(kind: Any, schema_of: dict[Any, Schema]) -> Schema:
    parts = [schema_of[part] for part in _parts(kind)]
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def _parts(kind: Any) -> tuple[Any, ...]:
    """The types that a union of structs is of; msgspec describes each, and not their union."""
    if kind is None:
        return ()
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)
