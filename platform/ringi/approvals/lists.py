"""The fields of the list of approval requests."""

from sqlalchemy import and_, case, func

from ringi.adapters.lists import version_of
from ringi.approvals.models import ApprovalRequest
from ringi.approvals.schemas import RequestState
from ringi.identity.lists import owner
from ringi.tags.lists import fill, tags_of
from ringi.web.listing import Field, Kind, Listing, column
from ringi.web.search import folded

# A request that nobody ended in time is shown, and so found, as expired, before housekeeping writes it down.
STATE = case(
    (and_(ApprovalRequest.state == RequestState.IN_REVIEW, ApprovalRequest.expires_at <= func.now()), RequestState.EXPIRED.value),
    else_=ApprovalRequest.state,
)

APPROVALS = Listing(
    "approvals", key=ApprovalRequest.id, search=(folded(ApprovalRequest.note),), families=tags_of(ApprovalRequest.id), also=("state",), finish=fill,
    fields={
        **version_of(ApprovalRequest.version_id),
        "environment": column(ApprovalRequest.environment, "Where it is to be deployed."),
        "state": Field(Kind.CHOICE, STATE, "How it stands.", order=STATE, nullable=False, choices=tuple(state.value for state in RequestState)),
        "owner": owner(ApprovalRequest.requester_id, "Who asked."),
        "note": column(ApprovalRequest.note, "What voters should know.", sort=False),
        "created_at": column(ApprovalRequest.created_at, "When it was opened."),
        "expires_at": column(ApprovalRequest.expires_at, "Until when it can be voted on."),
    },
)  # fmt: skip
