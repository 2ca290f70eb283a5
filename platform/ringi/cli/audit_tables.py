"""What the verbs of the audit log draw."""

from rich.table import Table

from ringi.api.as_of_schemas import ApprovedOut, LiveThenOut, SaidOut
from ringi.api.audit_schemas import AuditEntryOut, SampleOut
from ringi.audit.ringi_verify import Problem, VerifyReport
from ringi.cli.output import cell, facts, short, table

# A row that is not the one whose digest its entry holds.
_DIFFERS = {True: ", DIFFERS", False: ""}


def redraw(found: SampleOut) -> str:
    """The options of `ringi-verify` that draw the same sample."""
    given = {"--sample": found.size, "--seed": found.seed, "--action": found.action, "--from": found.since, "--to": found.until}
    return " ".join(f"{option} {value}" for option, value in given.items() if value is not None)


def sample(found: SampleOut) -> Table:
    """Population, draw and its entries."""
    whole = Table.grid()
    leaves = None if found.first is None else f"{found.first} to {found.last}"
    pairs = [("population", found.population), ("leaves", leaves), ("drawn", len(found.entries)), ("seed", found.seed)]
    whole.add_row(facts([*pairs, ("checkpoint", found.checkpoint.split("\n")[1])]))
    whole.add_row("")
    whole.add_row(entries(found.entries))
    return whole


def entries(found: list[AuditEntryOut]) -> Table:
    """Entries of the log, a line each."""
    rows = [
        (one.index, one.ts, one.actor, one.action, one.outcome, f"{one.object_type} {one.object_id}", short(one.digest),
         [f"{name}={cell(value)}" for name, value in (one.details or {}).items()]) for one in found
    ]  # fmt: skip
    return table(["entry", "at (UTC)", "who", "action", "outcome", "object", "digest", "details"], rows)


def _votes(one: ApprovedOut) -> list[str]:
    return [f"{vote.voter} ({vote.role}): {vote.decision}, {vote.reason or 'reason erased'}{_where(vote.said)}" for vote in one.votes]


def _where(said: SaidOut | None) -> str:
    return "" if said is None else f" [{'not sealed yet' if said.index is None else f'entry {said.index}'}{_DIFFERS[said.agrees is False]}]"


def approved(found: list[ApprovedOut]) -> Table:
    """Approvals that were in force, with their votes."""
    rows = [
        (one.version.reference, one.version.state, one.environment, f"{one.valid_from:%Y-%m-%d}{_where(one.said)}", one.expires_at, one.policy,
         _votes(one), [short(piece.digest) for piece in one.evidence]) for one in found
    ]  # fmt: skip
    return table(["version", "state", "environment", "approved", "until", "policy", "votes", "evidence"], rows)


def live(found: list[LiveThenOut]) -> Table:
    """What each channel served."""
    rows = [
        (one.channel, one.version, one.approval.version.state, short(one.approval.version.manifest_digest), f"{one.since:%Y-%m-%d %H:%M}{_where(one.said)}",
         one.released_by, _votes(one.approval), [short(piece.digest) for piece in one.approval.evidence]) for one in found
    ]  # fmt: skip
    return table(["channel", "version", "state", "manifest", "since (UTC)", "released by", "votes", "evidence"], rows)


def report(report: VerifyReport) -> Table:
    """What a verification found, problems last."""
    whole = Table.grid()
    verdict = "VERIFIED: every byte was checked" if report.ok else f"NOT VERIFIED: {report.problem_count} problems"
    pairs: list[tuple[str, object]] = [("result", verdict), ("log", report.origin), ("entries", report.size), ("root", report.root)]
    pairs += [("signed by", report.signers), ("cosigned by", report.witnesses or None)]
    others = f"{report.withheld} entries, as belonging to other organisations or to none" if report.withheld else None
    pairs += [
        ("withheld", others),
        ("records", f"{report.records} agree with the log" if report.ok else report.records),
        ("changed since", report.unsealed),
        ("shows only", f"{report.scope}; {report.outside} entries outside of it as hashes" if report.scope else None),
    ]
    whole.add_row(facts([*pairs, ("not included", [f"{count} {kind}" for kind, count in report.not_included.items()])]))
    if report.problems:
        whole.add_row("")
        whole.add_row(table(["entry", "problem", "action", "object", "what"], [_problem(one) for one in report.problems]))
    return whole


def _problem(one: Problem) -> tuple[object, ...]:
    return (one.index, one.code, one.action, one.object, one.message)
