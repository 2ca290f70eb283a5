"""The OpenAPI document says what is true of every answer: a refusal is a problem document (RFC 9457), malformed requests included."""

from typing import Any

from fastapi import FastAPI

from ringi.web.errors import PROBLEM
from ringi.web.schemas import Problem

_REF = {"schema": {"$ref": "#/components/schemas/Problem"}}
# What is no HTTP, or has a head of more than 64 KiB, never gets to the application: the server refuses it with 400, in plain text.
_BY_THE_SERVER = frozenset({"400", "default"})
_METHODS = frozenset({"get", "put", "post", "delete", "patch"})


def describe(app: FastAPI) -> None:
    """Let `app.openapi()` give every operation the shape of its refusals instead of FastAPI's own validation error."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(made())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for validation in ("HTTPValidationError", "ValidationError"):
        schemas.pop(validation, None)
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    for path in document["paths"].values():
        for method, operation in path.items():
            if method in _METHODS:
                _describe_refusals(operation["responses"])
    return document


def _describe_refusals(responses: dict[str, Any]) -> None:
    if "422" in responses:
        responses["422"] = {"description": "`malformed_request`", "content": {PROBLEM: {}}}
    responses["default"] = {"description": "Any other refusal, and what went wrong.", "content": {PROBLEM: {}}}
    for status, response in responses.items():
        if PROBLEM in response.get("content", {}):
            response["content"][PROBLEM] = _REF
            if status in _BY_THE_SERVER:
                response["content"]["text/plain"] = {"schema": {"type": "string"}}
