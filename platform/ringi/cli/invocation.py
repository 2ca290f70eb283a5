"""What every command shares: `--json`, `--profile`, its examples, and the client that they lead to."""

import functools
import inspect
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape

from ringi.cli import contexts
from ringi.cli.asked import Asked
from ringi.cli.errors import Usage
from ringi.cli.options import Filter, Search, Sort

if TYPE_CHECKING:
    from ringi.cli.client import RingiClient

Verb = TypeVar("Verb", bound=Callable[..., None])
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.", show_default=False)]
InProfile = Annotated[str | None, typer.Option("--profile", metavar="NAME", help="The saved server and token to use.", show_default=False)]
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

    as_json: bool = False
    profile: str | None = None

    def target(self) -> contexts.Target:
        """Server and token of this command."""
        return contexts.target(os.environ, profile=self.profile)


invocation = Invocation()


def connect() -> AbstractContextManager["RingiClient"]:
    """The client of this command; raises NoToken."""
    from ringi.cli.client import RingiClient  # noqa: PLC0415  # offline commands do without the schemas behind it

    target = invocation.target()
    if target.token is None:
        raise NoToken(target)
    return RingiClient(target.server, target.token)


class Commands(typer.Typer):
    """A group of commands; each has `--json`, `--profile` and at least one example."""

    def __init__(self, about: str = "") -> None:
        super().__init__(
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
    lists = "asked" in inspect.signature(function).parameters

    @functools.wraps(function)
    def called(*args: Any, ringi_json: bool, ringi_profile: str | None, **options: Any) -> None:
        invocation.as_json = invocation.as_json or ringi_json
        invocation.profile = ringi_profile or invocation.profile
        if lists:
            options["asked"] = Asked(
                filter=options.pop("ringi_filter") or [], sort=options.pop("ringi_sort"), q=options.pop("ringi_search")
            )
        function(*args, **options)

    signature = inspect.signature(function)
    own = {name: parameter for name, parameter in signature.parameters.items() if name != "asked"}
    shared: list[tuple[str, Any, Any]] = [("ringi_json", AsJson, False), ("ringi_profile", InProfile, None)]
    if lists:
        shared = [("ringi_filter", Filter, None), ("ringi_sort", Sort, None), ("ringi_search", Search, None), *shared]
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default) for name, kind, default in shared]
    called.__signature__ = signature.replace(parameters=[*own.values(), *added])  # type: ignore[attr-defined]  # read by typer
    called.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if name != "asked"} | {
        name: kind for name, kind, _ in shared
    }
    return called
