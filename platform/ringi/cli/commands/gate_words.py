"""The words of `ringi gate`: what a candidate, a baseline and a suite are called, and how an error ends."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import typer

from ringi.cli.errors import USAGE, BadValue, Usage
from ringi.cli.invocation import in_project, invocation
from ringi.cli.output import show_error
from ringi.cli.references import BadReference, check_name, parse_suite_version, parse_version, version_within
from ringi.kit.errors import RingiError


def or_error(work: Callable[[], Any]) -> Any:
    """What `work` gives; whatever goes wrong is told, and ends with 2."""
    try:
        return work()
    except RingiError as error:
        show_error(error)
    except ValueError as error:
        show_error(BadValue({"value": " ".join(str(error).split())[:500]}))
    except Exception as error:  # noqa: BLE001  # exit code 1 means NO-GO here: nothing else may end with it
        show_error(Usage(f"The gate could not decide: {type(error).__name__}: {error}", next_step="Report this."))
    raise typer.Exit(USAGE)


def candidate_in(reference: str, project: str | None) -> tuple[str, str]:
    """Project and candidate of a reference, or of a measurement's id."""
    if is_id(reference):
        place = project or invocation.target().project
        if place is None:
            raise Usage("The id of a measurement needs its project.", next_step="Add --project NAME.")
        return check_name(place, what="project"), reference
    found = parse_version(in_project(reference))
    return found.project, f"{found.name}:{found.selector}"


def baseline_in(text: str, project: str) -> str:
    """The baseline as the API takes it beside a project."""
    if text == "base" or text.startswith("channel:") or is_id(text):
        return text
    return version_within(text, project=project)


def suite_in(suite: str, project: str) -> str:
    """The suite as the API takes it beside a project."""
    found = parse_suite_version(suite if "/" in suite else f"{project}/{suite}")
    if found.project != project:
        raise BadReference(suite, f"the suite must be in the project '{project}'", example=f"{project}/{found.name}")
    return f"{found.name}:{found.selector}"


def is_id(text: str) -> bool:
    """Whether it is the id of something."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True
