"""``/docs``: the interface for machines, written out of the OpenAPI description without a foreign host's scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Request, Response

from db.engine.session import DatabaseUnavailable
from db.model_registry.activation import active_models
from db.model_registry.scope import ActiveModels
from worker.installation import Site
from worker.web.rendering import Renderer


@dataclass(frozen=True)
class DescribedParameter:
    name: str
    place: str
    type: str
    default: str


@dataclass(frozen=True)
class DescribedRoute:
    tag: str
    method: str
    path: str
    text: str
    parameters: tuple[DescribedParameter, ...]
    can_be_tried: bool


def docs_routes(web: FastAPI, site: Site, renderer: Renderer) -> APIRouter:
    """Return the route of the page; the description itself is at ``/openapi.json``."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    def docs(request: Request) -> Response:
        active: ActiveModels | Literal[False] | None
        try:
            with site.database.read() as session:
                active = active_models(session) or None
        except DatabaseUnavailable:  # the description does not depend on it
            active = False
        described = described_routes(web.openapi())
        return renderer.page(request, "docs.html", (described, active), active=active, routes=described)

    return routes


def described_routes(openapi: Mapping[str, Any]) -> tuple[DescribedRoute, ...]:
    """Return the routes of an OpenAPI description, in its order."""
    return tuple(
        DescribedRoute(
            tag=(operation.get("tags") or ["other"])[0],
            method=method.upper(),
            path=path,
            text=operation.get("description") or operation.get("summary", ""),
            parameters=tuple(_parameter(parameter) for parameter in operation.get("parameters", [])),
            can_be_tried=method == "get" and "{" not in path,
        )
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    )


def _parameter(parameter: Mapping[str, Any]) -> DescribedParameter:
    schema = parameter.get("schema", {})
    kind = " | ".join(map(str, schema["enum"])) if "enum" in schema else str(schema.get("type", ""))
    limits = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return DescribedParameter(
        parameter["name"],
        parameter["in"],
        " ".join([kind, *limits]),
        "required" if parameter.get("required") else str(schema.get("default", "")),
    )
