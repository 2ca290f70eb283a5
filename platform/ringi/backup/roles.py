"""The roles of a server that a dump gives rights to: a deployment has some of its own, such as the monitor's, and no dump of a database holds roles."""

import re
from collections.abc import Iterable
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL

from ringi.backup.places import tool_output
from ringi.kit.errors import RingiError

# pg_dump heads each object so; rights and policies alone name roles, and the text of a function may look like anything.
_HEAD = re.compile(r"^-- (?:Data for )?Name: .*; Type: (?P<type>[A-Z ]+); Schema: ", re.MULTILINE)
_NAMING = {"ACL", "DEFAULT ACL", "POLICY"}
_ROLE = r'(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)'
_ROLES = rf"{_ROLE}(?:, {_ROLE})*"
_RIGHTS = re.compile(r"^(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES) .*$", re.MULTILINE)
_OF_RIGHTS = re.compile(rf" (?:TO|FROM|FOR ROLE) ({_ROLES})(?=[ ;])")
# Not what its conditions read from.
_OF_POLICY = re.compile(rf"^CREATE POLICY .*? ON \S+(?: AS \w+)?(?: FOR \w+)? TO ({_ROLES})(?=[ ;])", re.MULTILINE)


class RolesAbsent(RingiError):
    """The backup gives rights to roles that this server has not."""

    code, status = "restore_roles_absent", 409

    def __init__(self, roles: Iterable[str]) -> None:
        names = sorted(roles)
        super().__init__(
            f"The backup gives rights to roles that this server has not: {', '.join(names)}.",
            next_step=f"Nothing was touched. Make them first: {' '.join(f'CREATE ROLE {_quoted(one)} NOLOGIN;' for one in names)}",
            details={"roles": names},
        )


def _quoted(role: str) -> str:
    return '"' + role.replace('"', '""') + '"'


def roles_of(dump: Path) -> set[str]:
    """Every role that rights or policies of a dump (custom format) name. Raises DatabaseToolFailed."""
    text = tool_output("pg_restore", "--schema-only", "--file=-", str(dump))
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    parts = [text[head.end() : end] for head, end in zip(heads, ends, strict=True) if head["type"] in _NAMING]
    found = [lists for part in parts for line in _RIGHTS.findall(part) for lists in _OF_RIGHTS.findall(line)]
    found += [lists for part in parts for lists in _OF_POLICY.findall(part)]
    named = {one for lists in found for one in re.findall(_ROLE, lists)}
    return {one[1:-1].replace('""', '"') if one.startswith('"') else one for one in named} - {"public"}


def absent(roles: set[str], server: URL) -> set[str]:
    """Those of them that the server has not."""
    with psycopg.connect(server.render_as_string(hide_password=False)) as connection:
        return roles - {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}


def make(roles: Iterable[str], connection: psycopg.Connection) -> None:
    """Make them without a login: whoever runs the platform gives them one again."""
    for role in sorted(roles):
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
