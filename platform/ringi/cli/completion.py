"""What a shell offers behind a half-typed word: profiles from the file, names from the server, nothing where neither answers."""

import os
from collections.abc import Iterator
from typing import Any

from ringi.cli import contexts
from ringi.kit.errors import RingiError

# Somebody waits at a prompt: a slow server gets no second chance.
_PATIENCE_S = 2.0
_SHOWN = 100


def profiles(incomplete: str) -> list[str]:
    """Saved profiles."""
    try:
        saved = contexts.read_profiles(contexts.config_path(os.environ))
    except RingiError:
        return []
    return [name for name in sorted(saved) if name.startswith(incomplete)]


def adapters(incomplete: str) -> list[str]:
    """`project/adapter` of the projects in sight; in a context with a project also its bare adapter names."""
    return _in_projects(incomplete, "adapters")


def datasets(incomplete: str) -> list[str]:
    """`project/dataset`, in the same way."""
    return _in_projects(incomplete, "datasets")


def bases(incomplete: str) -> list[str]:
    """Base models of the organisation."""
    return [name for name in _names("/bases") if name.startswith(incomplete)]


def projects(incomplete: str) -> list[str]:
    """Projects in sight."""
    return [name for name in _names("/projects") if name.startswith(incomplete)]


def _in_projects(incomplete: str, kind: str) -> list[str]:
    project, slash, _ = incomplete.partition("/")
    if slash:
        return [found for name in _names(f"/projects/{project}/{kind}") if (found := f"{project}/{name}").startswith(incomplete)]
    target = _target()
    own = target.project if target else None
    bare = [name for name in _names(f"/projects/{own}/{kind}") if name.startswith(incomplete)] if own else []
    return bare + [f"{name}/" for name in projects(incomplete)]


def _target() -> contexts.Target | None:
    try:
        return contexts.target(os.environ, profile=None)
    except RingiError:
        return None


def _names(path: str) -> Iterator[str]:
    target = _target()
    if target is None or target.token is None:
        return
    import httpx  # noqa: PLC0415  # help and local completions do without it

    try:
        answer = httpx.get(
            f"{target.server}/api/v1{path}",
            params={"limit": _SHOWN},
            timeout=_PATIENCE_S,
            headers={"Authorization": f"Bearer {target.token}"},
        )
        items: Any = answer.json().get("items", []) if answer.is_success else []
    except (httpx.HTTPError, ValueError):
        return
    yield from (item["name"] for item in items if isinstance(item, dict) and "name" in item)
