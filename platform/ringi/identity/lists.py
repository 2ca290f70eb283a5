"""The fields of identity's lists. `owner` brings a person's name to the lists of every domain."""

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from ringi.identity.models import BrowserSession, Membership, Project, Token, User
from ringi.identity.schemas import Role, UserKind
from ringi.tags.lists import fill, tags_of
from ringi.web.listing import Field, Listing, column, through
from ringi.web.search import folded

# unscoped: names of what the rows of a list point at, whose own query is scoped.
_USERS, _PROJECTS = select(User.id), select(Project.id)


def owner(reference: InstrumentedAttribute[object], about: str) -> Field:
    """The name of a user whose id the list's row holds. Projects show the names of their people in votes, releases and trails anyway."""
    return through(reference, _USERS, User.name, about)


def project(reference: InstrumentedAttribute[object]) -> Field:
    """The name of a row's project."""
    return through(reference, _PROJECTS, Project.name, "The project's name.")


PROJECTS = Listing(
    "projects", key=Project.id, search=(folded(Project.name), folded(Project.display_name)), families=tags_of(Project.id), finish=fill,
    fields={
        "name": column(Project.name, "The project's name."),
        "display_name": column(Project.display_name, "Its name for people.", sort=False),
        "created_at": column(Project.created_at, "When it was made."),
    },
)  # fmt: skip
USERS = Listing(
    "users", key=User.id, search=(folded(User.name), folded(User.display_name)),
    fields={
        "name": column(User.name, "The user's name."),
        "display_name": column(User.display_name, "Their name for people.", sort=False),
        "kind": column(User.kind, "A person or a service account.", choices=UserKind),
        "disabled_at": column(User.disabled_at, "When they were disabled."),
        "erased_at": column(User.erased_at, "When they were erased."),
        "created_at": column(User.created_at, "When they were added."),
    },
)  # fmt: skip
MEMBERSHIPS = Listing(
    "memberships", key=Membership.id,
    fields={
        "user": owner(Membership.user_id, "Who holds the role."),
        "role": column(Membership.role, "The role.", choices=Role),
        "project": project(Membership.project_id),
        "granted_by": owner(Membership.granted_by, "Who gave it."),
        "expires_at": column(Membership.expires_at, "When it ends by itself."),
        "created_at": column(Membership.created_at, "When it was given."),
    },
)  # fmt: skip
SESSIONS = Listing(
    "sessions", key=BrowserSession.id,
    fields={
        "user": owner(BrowserSession.user_id, "Whose session it is."),
        "created_at": column(BrowserSession.created_at, "When it began."),
        "last_seen_at": column(BrowserSession.last_seen_at, "When it was used last, to the minute."),
        "ends_at": column(BrowserSession.ends_at, "When it ends in any case."),
        "ended_at": column(BrowserSession.ended_at, "When it was ended."),
    },
)  # fmt: skip
TOKENS = Listing(
    "tokens", key=Token.id, search=(folded(Token.name),),
    fields={
        "user": owner(Token.user_id, "Whose token it is."),
        "name": column(Token.name, "What it is for.", sort=False),
        "prefix": column(Token.prefix, "How it begins."),
        "environment": column(Token.environment, "The environment that it is bound to."),
        "created_at": column(Token.created_at, "When it was issued."),
        "expires_at": column(Token.expires_at, "When it ends."),
        "revoked_at": column(Token.revoked_at, "When it was ended."),
        "last_used_at": column(Token.last_used_at, "When it was used last."),
    },
)  # fmt: skip
