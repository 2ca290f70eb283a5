"""The fields of the lists of audit entries. Only the plain columns can be searched: what an entry proves is in its bytes."""

from dataclasses import replace

from sqlalchemy import String, cast, select

from ringi.audit.models import AuditEvent, AuditLeaf
from ringi.audit.schemas import AuditAction, Outcome
from ringi.identity.lists import project
from ringi.identity.models import User
from ringi.web.listing import Listing, column, through

# unscoped: the lists' own rows are scoped; an entry holds its actor's id as text.
_USERS = select(cast(User.id, String))
_FIELDS = {
    "action": column(AuditEvent.action, "What was done.", choices=AuditAction),
    "outcome": column(AuditEvent.outcome, "How it ended.", choices=Outcome),
    "user": through(AuditEvent.actor_id, _USERS, User.name, "The name of the person or service that did it."),
    "actor_id": column(
        AuditEvent.actor_id, "Their opaque id, as it stands in the entry; a part of the platform (system) has its name there."
    ),
    "actor_type": column(AuditEvent.actor_type, "A person (user), a service or the platform itself (system)."),
    "object_type": column(AuditEvent.object_type, "The kind of thing that it was done to."),
    "object_id": column(AuditEvent.object_id, "That thing's id."),
    "project": project(AuditEvent.project_id),
    "ts": column(AuditEvent.ts, "When."),
    # Unknown while the sequencer has not placed the entry.
    "index": replace(column(AuditLeaf.leaf_index, "Its leaf in the log."), nullable=True),
}

EVENTS = Listing("audit", key=AuditEvent.event_id, fields=_FIELDS, also=("object_id", "action", "user"))
TRAIL = Listing("trail", key=AuditEvent.event_id, fields=_FIELDS)
