"""A person's browser that keeps its cookies, and what a test looks at behind its sessions."""

from typing import Any
from uuid import uuid4

import httpx
import psycopg

from support.company import Company, entries
from support.running_platform import Processes

USERS = "/api/v1/users"


class Browser(httpx.Client):
    """One person's browser: it keeps cookies, and follows a redirect when it is told to."""

    def __init__(self, company: Company, subject: str | None = None) -> None:
        super().__init__(base_url=company.server, timeout=60)
        self.company, self.subject = company, subject or company.chief

    def back(self, **person: Any) -> str:
        """Where the provider sends the browser, after a login was begun here."""
        self.company.provider.sits(self.subject, **person)
        begun = self.get("/auth/login")
        assert begun.status_code == 302, begun.text
        return str(httpx.get(begun.headers["location"]).headers["location"])

    def log_in(self, **asked: str) -> httpx.Response:
        """To the provider and back, as a person does."""
        begun = self.get("/auth/login", params=asked)
        assert begun.status_code == 302, begun.text
        return self.get(httpx.get(begun.headers["location"]).headers["location"])

    @property
    def secret(self) -> str:
        return self.cookies["ringi_session"]

    def csrf(self) -> dict[str, str]:
        return {"X-CSRF-Token": self.get("/auth/session").json()["csrf_token"]}

    def change(self, **headers: str) -> httpx.Response:
        """One change, with the token of this session unless `headers` say otherwise."""
        return self.post(USERS, json={"name": f"u{uuid4().hex[:8]}"}, headers=self.csrf() | headers)


def begun_logins(browser: Browser) -> list[str]:
    """The cookies of the logins that this browser has begun."""
    return [name for name in browser.cookies if name.startswith("ringi_login")]


def shifted(shared: Processes, secret: str, column: str, back: str) -> None:
    """As if it had happened that much earlier."""
    with psycopg.connect(shared.urls.superuser_url.replace("+psycopg", ""), autocommit=True) as database:
        # An end that was said does not move, not even for us.
        database.execute("SET session_replication_role = replica")
        statement = f"UPDATE browser_sessions SET {column} = {column} - %s::interval WHERE secret_hash = encode(sha256(%s::bytea), 'hex')"
        assert database.execute(statement, [back, secret.encode()]).rowcount == 1


def noted(shared: Processes, action: str, answer: httpx.Response) -> dict[str, Any]:
    """The one entry of a request."""
    request = answer.headers["X-Request-Id"]
    (found,) = [one for one in entries(shared, action) if request in {one["request_id"], (one["details"] or {}).get("request")}]
    return found
