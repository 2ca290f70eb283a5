"""Every route declares the one action that it is, or stands here with the reason why it needs none."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.security.base import SecurityBase

from ringi.api import health
from ringi.api.app import API_PREFIX, create_app
from ringi.hub import endpoints as hub
from ringi.identity import login_endpoints
from ringi.identity.dependencies import current_actor, setup_actor
from ringi.identity.permissions import Permission
from ringi.web.route import ApiRoute
from ringi.web.session import get_session

# Answer without a token.
PUBLIC = {
    **dict.fromkeys(health.PUBLIC_PATHS, "a load balancer has no token, and learns only whether we can serve"),
    **dict.fromkeys(login_endpoints.PUBLIC_PATHS, "whoever has no token yet asks where to get one; nothing here is a secret"),
    **dict.fromkeys(hub.PUBLIC_PATHS, "hub clients ask before they have a token, and nothing is revealed"),
    **dict.fromkeys(
        ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/static-offline-docs"),
        "the document describes the API and holds no data",
    ),
}
# Answer to every valid token, about its own bearer.
ANY_USER = {
    f"GET {API_PREFIX}/whoami": "a caller may know who they are",
    f"GET {API_PREFIX}/roles": "what the roles allow is no secret inside",
    f"GET {API_PREFIX}/tokens": "a caller's own tokens; the service shows more to an identity_admin",
    f"POST {API_PREFIX}/tokens": "a caller's own token, made with a login; it allows no more than the caller",
    "GET /auth/session": "a browser's own session",
    "POST /auth/logout": "ends a browser's own session",
    f"GET {API_PREFIX}/sessions": "a caller's own sessions; the service shows more to an identity_admin",
    f"DELETE {API_PREFIX}/sessions/{{session_id}}": "a caller's own session; the service lets an identity_admin end the others",
    f"GET {API_PREFIX}/usage": "what the caller's own token has used",
    f"GET {API_PREFIX}/tokens/{{token_id}}": "a caller's own token; the service shows the others to an identity_admin",
    f"DELETE {API_PREFIX}/tokens/{{token_id}}": "a caller's own token; the service lets an identity_admin end the others",
}
# Their body is read as it comes, and named by its digest: sending it again changes nothing.
STREAMED_IN = {
    f"POST {API_PREFIX}/uploads": "content-addressed",
    f"PATCH {API_PREFIX}/uploads/sessions/{{session_id}}": "its offset moves once",
    f"POST {API_PREFIX}/uploads/sessions/{{session_id}}/finish": "asked again, it answers the same",
    f"DELETE {API_PREFIX}/uploads/sessions/{{session_id}}": "asked again, there is nothing left",
    f"POST {API_PREFIX}/storage/collections": "removes what nothing refers to, and a repeat finds less",
}


class Declared(NamedTuple):
    """A permission and the function that asks for it."""

    permission: Permission
    asked_by: str


class Route(NamedTuple):
    """One method of one path."""

    name: str
    path: str
    dependant: Dependant | None
    original: object

    def calls(self) -> Iterator[object]:
        """Every function that runs for the route."""
        waiting = [self.dependant] if self.dependant else []
        while waiting:
            one = waiting.pop()
            yield one.call
            waiting.extend(one.dependencies)

    def declared(self) -> list[Declared]:
        """The permissions on its dependencies."""
        marked = ((call, getattr(call, "ringi_permission", None)) for call in self.calls())
        return [Declared(permission, getattr(call, "__qualname__", "")) for call, permission in marked if permission is not None]


def routes() -> list[Route]:
    contexts = list(iter_route_contexts(create_app().routes))
    return [
        Route(f"{method} {context.path}", str(context.path), getattr(context, "dependant", None), context.original_route)
        for context in contexts
        for method in sorted(context.methods or {"GET"})
    ]


ROUTES = routes()
named = pytest.mark.parametrize("route", ROUTES, ids=[route.name for route in ROUTES])


def test_the_walk_sees_the_routes_of_every_domain() -> None:
    names = {route.name for route in ROUTES}
    assert {f"POST {API_PREFIX}/organizations", f"POST {API_PREFIX}/uploads", f"GET {API_PREFIX}/audit/events", "GET /healthz"} <= names
    assert len(names) > 60


@named
def test_a_route_declares_its_action_or_stands_on_a_list_with_a_reason(route: Route) -> None:
    declared = route.declared()
    if route.path in PUBLIC or route.name in ANY_USER:
        assert not declared, "it declares a permission: take it off the list"
    else:
        assert len(declared) == 1, f"one declared action per route, not {declared}"
        assert isinstance(declared[0].permission, Permission)


@named
def test_a_route_under_a_project_asks_inside_that_project(route: Route) -> None:
    if route.path.startswith(f"{API_PREFIX}/projects/{{project}}"):
        assert [one.asked_by.partition(".")[0] for one in route.declared()] == ["allowed_in_project"]


@named
def test_only_listed_routes_answer_without_a_token(route: Route) -> None:
    reads_the_token = any(isinstance(call, SecurityBase) for call in route.calls())
    assert reads_the_token == (route.path not in PUBLIC)


@named
def test_a_write_can_be_repeated_with_a_key_and_a_read_has_a_tag(route: Route) -> None:
    if not route.path.startswith(API_PREFIX):
        return
    assert isinstance(route.original, ApiRoute), "its router needs route_class=ApiRoute (web/route.py)"
    if not route.name.startswith("GET ") and route.name not in STREAMED_IN:
        calls = list(route.calls())
        assert get_session in calls, "its answer is kept in the transaction of its change: take SessionDep"
        assert route.declared() or {current_actor, setup_actor} & set(calls), "an answer is kept for its caller"


def test_the_lists_name_no_route_that_is_gone() -> None:
    assert set(PUBLIC) <= {route.path for route in ROUTES}
    assert set(ANY_USER) | set(STREAMED_IN) <= {route.name for route in ROUTES}


def test_reading_never_needs_a_permission_to_write() -> None:
    reads = {one.permission for route in ROUTES if route.name.startswith("GET ") for one in route.declared()}
    reading = {
        Permission.IDENTITY_READ,
        Permission.ORGANIZATION_READ,
        Permission.PROJECT_READ,
        Permission.AUDIT_READ,
        Permission.FLEET_READ,
        Permission.RELEASE_PULL,
        Permission.STORAGE_READ,
        Permission.METRICS_READ,
    }
    assert reads <= reading
