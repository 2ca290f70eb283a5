"""A company whose people log in at an identity provider: an API process of its own, on the session's database."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from ringi.cli.client import RingiClient
from ringi.identity.schemas import Role
from support.hub_client import free_port
from support.identity_provider import AUDIENCE, CLI_CLIENT, WEB_CLIENT, WEB_SECRET, IdentityProvider
from support.running_platform import SETUP_KEY, Processes, environment_of, start_api

MAX_AGE_S = 900
STRONG = "urn:example:two-factors"


class Company:
    """An API whose people log in at `provider`, with an organisation whose administrator is the subject `chief`."""

    def __init__(self, processes: Processes, provider: IdentityProvider) -> None:
        self.processes, self.server, self.provider = processes, processes.server, provider
        self.chief = f"chief-{uuid4().hex[:8]}"
        with RingiClient(self.server, SETUP_KEY) as operator:
            made = operator.identity.create_organization(f"org-{uuid4().hex[:8]}", admin="chief", admin_subject=self.chief)
        self.organization = str(made.organization.id)
        self.first_token = made.token.token

    def call(self, token: str, method: str = "GET", path: str = "/whoami", **request: Any) -> httpx.Response:
        return httpx.request(method, f"{self.server}/api/v1{path}", headers={"Authorization": f"Bearer {token}"}, **request)

    def admin(self) -> RingiClient:
        return RingiClient(self.server, self.provider.token(self.chief))

    def person(self, *roles: Role) -> tuple[str, str]:
        """A new person: their name and their subject."""
        name = f"user-{uuid4().hex[:6]}"
        with self.admin() as chief:
            chief.identity.create_user(name, display_name="山田", subject=f"subject-of-{name}")
            for role in roles:
                chief.identity.grant_role(name, role)
        return name, f"subject-of-{name}"


@contextmanager
def company_at(shared: Processes, provider: IdentityProvider, folder: Path, **more: str) -> Iterator[Company]:
    """Start its API, and end it."""
    (folder / "data").mkdir()
    settings = {
        "RINGI_OIDC_ISSUER": provider.issuer, "RINGI_OIDC_AUDIENCE": AUDIENCE, "RINGI_STEP_UP_MAX_AGE_S": str(MAX_AGE_S),
        "RINGI_STEP_UP_ACR": STRONG, "RINGI_PERSONAL_KEY_FILE": shared.environment["RINGI_PERSONAL_KEY_FILE"],
        "RINGI_OIDC_CLI_CLIENT_ID": CLI_CLIENT, "RINGI_OIDC_CLIENT_ID": WEB_CLIENT, "RINGI_OIDC_CLIENT_SECRET": WEB_SECRET,
    }  # fmt: skip
    environment = environment_of(folder, shared.urls, shared.broker_url, free_port()) | settings | more
    processes = Processes(folder, shared.urls, shared.broker_url, environment)
    try:
        start_api(processes)
        yield Company(processes, provider)
    finally:
        print(processes.log_of("api")[-4000:])
        processes.stop()


def entries(shared: Processes, action: str) -> list[dict[str, Any]]:
    """The entries of an action as they were hashed, oldest first."""
    with psycopg.connect(shared.urls.superuser_url.replace("+psycopg", ""), autocommit=True) as database:
        rows = database.execute("SELECT body FROM audit_event WHERE action = %s ORDER BY id", [action]).fetchall()
    return [json.loads(body) for (body,) in rows]
