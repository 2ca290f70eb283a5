"""Approvals: ask, look, vote, take back, and the policy that decides."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.table import Table

from ringi.approvals.policy import PolicyDocument
from ringi.approvals.schemas import ApprovalOut, RequestState, VoteDecision
from ringi.cli.asked import Asked
from ringi.cli.environments import note_unserved
from ringi.cli.errors import Usage
from ringi.cli.invocation import Commands, connect, invocation
from ringi.cli.options import IfMatch, Limit, Reason, Version
from ringi.cli.output import console, emit, emit_list, facts, short, table
from ringi.cli.references import parse_version

app = Commands("Approvals: 稟議, the proposal that circulates until everyone responsible has stamped it.")

Project = Annotated[str, typer.Argument(help="The project.")]
RequestId = Annotated[UUID, typer.Argument(metavar="REQUEST", help="The request's id.")]
_ID = "0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e"


@app.verb(
    "request", "ringi approvals request risk/answers:v1", "ringi approvals request risk/answers:v1 --environment staging --note 検証用"
)
def request(
    reference: Version,
    environment: Annotated[str, typer.Option(help="Where it is to be deployed.")] = "production",
    note: Annotated[str, typer.Option(help="What voters should know.")] = "",
) -> None:
    """Ask for a version to be approved for an environment."""
    wanted = parse_version(reference)
    with connect() as client:
        made = client.approvals.request(wanted.project, wanted.name, wanted.selector or "", environment=environment, note=note)
        note_unserved(client, wanted.project, environment)
    emit(made, lambda: _drawn(made))


@app.verb("list", "ringi approvals list risk", "ringi approvals list risk --state in_review")
def list_approvals(
    project: Project,
    asked: Asked,
    state: Annotated[RequestState | None, typer.Option(help="Only these.", show_default=False)] = None,
    limit: Limit = 50,
) -> None:
    """List the requests of a project."""
    columns = ["request", "version", "environment", "state", "stage", "votes", "requester", "opened"]
    with connect() as client:
        emit_list(
            client.approvals.all(project, state=state, **asked), limit=limit,
            render=lambda found: table(columns, [
                (one.id, one.version, one.environment, one.state, one.stage, len(one.votes), one.requester, one.created_at) for one in found
            ]),
        )  # fmt: skip


@app.verb("show", f"ringi approvals show risk {_ID}")
def show(project: Project, request_id: RequestId) -> None:
    """Show a request: what is proposed, the evidence, the votes, what is missing."""
    with connect() as client:
        found = client.approvals.get(project, request_id)
    emit(found, lambda: _drawn(found))


@app.verb(
    "vote",
    f"ringi approvals vote risk {_ID} --approve --reason 'better on unseen items, slices looked at'",
    f"ringi approvals vote risk {_ID} --return --reason 日本語の評価が足りません",
)
def vote(
    project: Project,
    request_id: RequestId,
    reason: Reason,
    approve: Annotated[bool, typer.Option("--approve", help="承認: yes.", show_default=False)] = False,
    return_: Annotated[bool, typer.Option("--return", help="差戻し: back, with changes.", show_default=False)] = False,
    reject: Annotated[bool, typer.Option("--reject", help="却下: no.", show_default=False)] = False,
    acknowledge: Annotated[bool, typer.Option("--acknowledge", help="確認: seen; it does not count.", show_default=False)] = False,
    if_match: IfMatch = None,
) -> None:
    """Vote on a request as it stands now: what is voted on is shown, and its digests go with the vote."""
    given = {
        VoteDecision.APPROVE: approve,
        VoteDecision.RETURN: return_,
        VoteDecision.REJECT: reject,
        VoteDecision.ACKNOWLEDGE: acknowledge,
    }
    chosen = [decision for decision, is_given in given.items() if is_given]
    if len(chosen) != 1:
        raise Usage(
            f"A vote is one decision; {len(chosen)} were given.", next_step="Pass one of --approve, --return, --reject, --acknowledge."
        )
    with connect() as client:
        seen = client.approvals.get(project, request_id)
        if not invocation.as_data:
            console(stderr=True).print(_drawn(seen))
        after = client.approvals.vote(project, seen, decision=chosen[0], reason=reason, if_match=if_match)
    emit(after, lambda: _after(after))


@app.verb("withdraw", f"ringi approvals withdraw risk {_ID} --reason 'a better version is coming'")
def withdraw(project: Project, request_id: RequestId, reason: Reason, if_match: IfMatch = None) -> None:
    """Take your own request back."""
    with connect() as client:
        after = client.approvals.withdraw(project, request_id, reason=reason, if_match=if_match)
    emit(after, lambda: _after(after))


@app.verb(
    "policy",
    "ringi approvals policy risk",
    "ringi approvals policy risk --environment staging",
    "ringi approvals policy risk --set policy.json",
)
def policy(
    project: Project,
    environment: Annotated[str | None, typer.Option(help="Of this environment only.", show_default=False)] = None,
    set_: Annotated[Path | None, typer.Option("--set", metavar="FILE", help="Set it from a JSON document.", show_default=False)] = None,
    if_match: IfMatch = None,
) -> None:
    """Show the policy that decides, or set a new version of it; open requests then go stale."""
    document = None if set_ is None else _document(set_)
    with connect() as client:
        if document is not None:
            found = client.approvals.set_policy(project, document, environment=environment, if_match=if_match)
        else:
            found = client.approvals.policy(project, environment or "production")
    seats = [(stage.name, f"{seat.people} × {seat.role}") for stage in found.document.stages for seat in stage.seats]
    evidence = [rule.wanted for rule in found.document.evidence]
    pairs = [("policy", f"version {found.number}"), ("environment", found.environment or "any"), ("digest", found.digest)]
    times = [("evidence", evidence), ("votes within", f"{found.document.sla_h} h"), ("a grant lasts", f"{found.document.grant_ttl_d} days")]
    emit(found, lambda: facts([*pairs, *((f"stage {name}", seat) for name, seat in seats), *times]))


def _document(file: Path) -> PolicyDocument:
    try:
        return PolicyDocument.model_validate_json(file.read_bytes())
    except OSError as error:
        raise Usage(f"'{file}' cannot be read: {error.strerror}.", next_step="Name a JSON file.") from None
    except ValidationError as error:
        reasons = [{"where": ".".join(str(step) for step in one["loc"]), "what": one["msg"]} for one in error.errors()]
        raise Usage(
            f"'{file}' is not a policy.", next_step="Start from: ringi approvals policy PROJECT --json.", details={"reasons": reasons}
        ) from None


def _drawn(approval: ApprovalOut) -> Table:
    whole = Table.grid()
    whole.add_row(
        facts(
            [
                ("request", approval.id),
                ("state", f"{approval.state}, stage '{approval.stage}'" if approval.stage else approval.state),
                ("version", approval.version),
                ("environment", approval.environment),
                ("manifest", approval.manifest_digest),
                ("policy", approval.policy_digest),
                ("evidence", approval.evidence_digest),
                *((f"evidence {number}", _piece(piece)) for number, piece in enumerate(approval.evidence, start=1)),
                ("requester", approval.requester),
                ("note", approval.note),
                ("votes until", approval.expires_at),
                *((("✓" if one.satisfied else "✗") + " needed", f"{one.message} [{one.code}]") for one in approval.requirements),
                *_granted(approval),
            ]
        )
    )
    if approval.votes:
        rows = [(one.voter, one.decision, one.role, one.stage, one.reason, one.created_at) for one in approval.votes]
        whole.add_row("")
        whole.add_row(table(["voter", "vote", "as", "stage", "reason", "at"], rows))
    return whole


def _piece(piece: dict[str, object]) -> str:
    return ", ".join(
        f"{key} {short(value) if isinstance(value, str) and value.startswith('sha256:') else value}" for key, value in piece.items()
    )


def _granted(approval: ApprovalOut) -> list[tuple[str, object]]:
    return [("grant", approval.grant.id), ("good until", approval.grant.expires_at)] if approval.grant else []


def _after(approval: ApprovalOut) -> Table:
    votes = [f"{one.voter}: {one.decision}" for one in approval.votes]
    missing = [one.message for one in approval.requirements if not one.satisfied]
    pairs: list[tuple[str, object]] = [("request", approval.id), ("state", approval.state), ("votes", votes), ("still missing", missing)]
    return facts([*pairs, *_granted(approval)])
