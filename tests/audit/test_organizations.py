"""Two organisations on one platform: an auditor reads and exports the log of their own and not a word of the other's."""

from pathlib import Path
from uuid import uuid4

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from ringi.audit import service
from ringi.audit.export import is_sealed
from ringi.audit.ringi_verify import verify_bundle
from ringi.audit.schemas import AuditAction
from ringi.kit.actor import system_actor
from support.running_platform import PROJECT, Platform, new_organization
from support.waiting import until


def test_an_auditor_sees_and_exports_the_entries_and_rows_of_their_own_organisation_only(tmp_path: Path, platform: Platform) -> None:
    marker = f"nobodys-{uuid4()}"
    engine = create_engine(platform.processes.urls.app_url)
    with new_organization(platform.processes) as other, Session(engine) as session:
        service.record(session, system_actor("setup"), AuditAction.CHANNEL_CREATE, object_type="channel", object_id=marker)
        session.commit()
        # Looking at it for the first time writes the policy that a project starts with.
        policy, other_policy = (one.as_("viewer").approvals.policy(PROJECT, "production") for one in (platform, other))
        own = {str(entry.event_id) for entry in platform.as_("auditor").audit.events()}
        foreign = {str(entry.event_id) for entry in other.as_("auditor").audit.events()}
        owners = session.execute(text("SELECT event_id, organization_id FROM audit_event")).all()
        mine = {organization for event, organization in owners if str(event) in own}
        assert (len(mine), None in mine, own & foreign) == (1, False, set())
        assert own == {str(event) for event, organization in owners if organization in mine}
        session.commit()
        until(lambda: is_sealed(session))
    engine.dispose()
    path = tmp_path / "bundle.zip"
    with path.open("wb") as out:
        platform.as_("auditor").audit.export(out)
    report = verify_bundle(path, platform.as_("auditor").audit.key().vkey)
    assert report.problems == []
    assert report.records == 1
    assert report.withheld > len(foreign)
    data = path.read_bytes()
    assert all(known.encode() in data for known in [*own, str(policy.id)])
    assert not any(secret.encode() in data for secret in [*foreign, str(other_policy.id), marker])
