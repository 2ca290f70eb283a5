"""What every command shares: `--output`, `--json`, `--profile`, its examples, and the client that they lead to."""

import functools
import inspect
import os
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape
from typer.core import TyperGroup

from ringi.cli import completion, contexts
from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.errors import Usage
from ringi.cli.list_options import Filter, Search, Sort

if TYPE_CHECKING:
    from ringi.cli.bearer import Held
    from ringi.cli.client import RingiClient

Verb = TypeVar("Verb", bound=Callable[..., None])
AsJson = Annotated[bool, typer.Option("--json", help="The same as --output json.", show_default=False)]


class Output(StrEnum):
    """`table` for people, the others for programs: then nothing else is printed to stdout."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def _choose_profile(name: str | None) -> str | None:
    # Before any other argument is read: a reference without a project means the project of this profile.
    if name is not None:
        invocation.profile = name
    return name


AsOutput = Annotated[Output | None, typer.Option("--output", "-o", help="How to print the result.", show_default="table")]
InProfile = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="NAME", help="The saved server and token to use.", show_default=False,
        autocompletion=completion.profiles, callback=_choose_profile, is_eager=True,
    ),
]  # fmt: skip
SETTINGS = {"help_option_names": ["--help", "-h"]}


class NoToken(Usage):
    """The command needs to know who is asking."""

    code = "no_token"

    def __init__(self, target: contexts.Target) -> None:
        super().__init__(
            f"There is no token for {target.server} (profile '{target.profile}').",
            next_step=f"Save one: ringi login --server {target.server}, set RINGI_TOKEN, or begin: ringi setup.",
        )


@dataclass
class Invocation:
    """The options that stand before or behind the command alike; one process is one invocation."""

    output: Output = Output.TABLE
    profile: str | None = None

    @property
    def as_data(self) -> bool:
        """Whether a program reads the result."""
        return self.output is not Output.TABLE

    def wants(self, *, output: Output | None, as_json: bool) -> None:
        """Take the options in; `--json` beside another format is a contradiction."""
        if as_json and output not in {None, Output.JSON}:
            raise Usage(f"--json and --output {output} contradict each other.", next_step="Give one of the two.")
        self.output = Output.JSON if as_json else output or self.output

    @property
    def fresh_login(self) -> str:
        """The command that renews the login of this command's profile."""
        return "ringi login --fresh" + (f" --profile {shlex.quote(self.profile)}" if self.profile else "")

    def target(self) -> contexts.Target:
        """Server and token of this command."""
        return contexts.target(os.environ, profile=self.profile)


invocation = Invocation()


def in_project(reference: str) -> str:
    """`adapter:v3` as `project/adapter:v3` where the context has a project; what names a project already stays as it is."""
    if "/" in reference.partition("@")[0]:
        return reference
    project = invocation.target().project
    return f"{project}/{reference}" if project else reference


def connect() -> AbstractContextManager["RingiClient"]:
    """The client of this command; raises NoToken."""
    from ringi.cli.client import RingiClient  # noqa: PLC0415  # offline commands do without the schemas behind it

    target = invocation.target()
    if target.token is None:
        raise NoToken(target)
    if target.login is None:
        return RingiClient(target.server, target.token)
    from ringi.cli.bearer import Held  # noqa: PLC0415  # as above

    return RingiClient(target.server, Held(target.token, target.login.over_at), renew=functools.partial(_renewed, target, target.login))


def _renewed(target: contexts.Target, login: contexts.SavedLogin, stale: str) -> "Held":
    from ringi.cli.logins import renewal  # noqa: PLC0415  # most commands come while the token is good

    return renewal.renewed(contexts.config_path(os.environ), target.profile, stale, of=renewal.Whose(target.server, login))


class Commands(typer.Typer):
    """A group of commands; each has `--output`, `--json`, `--profile` and at least one example."""

    def __init__(self, about: str = "", *, group: type[TyperGroup] = TyperGroup) -> None:
        super().__init__(
            cls=group,
            help=about,
            no_args_is_help=True,
            add_completion=False,
            context_settings=SETTINGS,
            rich_markup_mode="rich",
            pretty_exceptions_enable=False,
        )

    def verb(self, name: str, *examples: str) -> Callable[[Verb], Verb]:
        """Make a function the command `name`; its docstring is the help."""
        epilog = "\n\n".join(["Examples:", *(escape(f"  {example}") for example in examples)])

        def register(function: Verb) -> Verb:
            self.command(name, epilog=epilog, context_settings=SETTINGS)(_with_shared_options(function))
            return function

        return register


def _with_shared_options(function: Callable[..., None]) -> Callable[..., None]:
    # A verb that lists something takes `asked` and gets the options that every list has.
    kind = function.__annotations__.get("asked")
    lists, searched = kind is not None, kind is Asked

    @functools.wraps(function)
    def called(*args: Any, ringi_json: bool, ringi_output: Output | None, ringi_profile: str | None, **options: Any) -> None:
        invocation.wants(output=ringi_output, as_json=ringi_json)
        invocation.profile = ringi_profile or invocation.profile
        if lists:
            asked = AskedInOrder(filter=options.pop("ringi_filter") or [], sort=options.pop("ringi_sort"))
            options["asked"] = asked | Asked(q=options.pop("ringi_search")) if searched else asked
        function(*args, **options)

    signature = inspect.signature(function)
    own = {name: parameter for name, parameter in signature.parameters.items() if name != "asked"}
    shared: list[tuple[str, Any, Any]] = [
        ("ringi_output", AsOutput, None),
        ("ringi_json", AsJson, False),
        ("ringi_profile", InProfile, None),
    ]
    if lists:
        shared = [
            ("ringi_filter", Filter, None),
            ("ringi_sort", Sort, None),
            *([("ringi_search", Search, None)] if searched else []),
            *shared,
        ]
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default) for name, kind, default in shared]
    called.__signature__ = signature.replace(parameters=[*own.values(), *added])  # type: ignore[attr-defined]  # read by typer
    called.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if name != "asked"} | {
        name: kind for name, kind, _ in shared
    }
    return called
