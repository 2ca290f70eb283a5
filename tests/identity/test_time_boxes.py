"""Privileged roles end by themselves, lists show which end soon, and an organisation cannot lock itself out."""

from datetime import UTC, datetime, timedelta

import pytest

from ringi.identity.permissions import ORGANIZATION_ROLES, PRIVILEGED
from ringi.identity.schemas import MembershipOut, Role, UserKind
from support.refusals import refused
from support.running_platform import PROJECT, Platform
from support.shell import Shell


def days_left(held: MembershipOut) -> int | None:
    return None if held.expires_at is None else round((held.expires_at - datetime.now(UTC)) / timedelta(days=1))


@pytest.mark.parametrize("role", Role)
def test_a_privileged_role_given_without_a_time_ends_after_ninety_days(platform: Platform, role: Role) -> None:
    admin = platform.as_("admin").identity
    admin.create_user("mio", display_name="美緒")
    held = admin.grant_role("mio", role, project=None if role in ORGANIZATION_ROLES else PROJECT)
    assert (days_left(held) == 90) is (role in PRIVILEGED)
    assert (days_left(held) is None) is (role in {Role.VIEWER, Role.CONTRIBUTOR, Role.EVALUATOR})


def test_a_privileged_role_is_given_for_a_year_at_most_and_again_before_it_ends(platform: Platform) -> None:
    admin = platform.as_("admin").identity
    admin.create_user("mio")
    with refused("role_too_long", 400):
        admin.grant_role("mio", Role.REVIEWER, project=PROJECT, days=366)
    assert days_left(admin.grant_role("mio", Role.REVIEWER, project=PROJECT, days=365)) == 365
    assert days_left(admin.grant_role("mio", Role.CONTRIBUTOR, project=PROJECT, days=3650)) == 3650
    admin.grant_role("mio", Role.REVIEWER, project=PROJECT, days=30)
    logged = platform.logged("membership.grant", role="reviewer")
    assert [(one.details or {})["days"] for one in logged][:2] == [30, 365]


def test_the_list_shows_what_ends_soon(platform: Platform, shell: Shell) -> None:
    admin = platform.as_("admin").identity
    admin.create_user("mio")
    soon = admin.grant_role("mio", Role.VALIDATOR, project=PROJECT, days=5)
    later = admin.grant_role("mio", Role.DEPLOYER, project=PROJECT, days=40)
    bound = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"
    found = {one.id for one in admin.memberships(filter=[f"expires_at<{bound}"])}
    assert (soon.id in found, later.id in found) == (True, False)
    shown = shell.json("roles", "list", "--ending-within", "30", "--profile", "admin")
    assert [one["id"] for one in shown] == [str(soon.id)]


def test_the_last_administrator_hands_the_role_on_before_it_goes(platform: Platform) -> None:
    admin = platform.as_("admin").identity
    first = next(one for one in admin.memberships() if (one.user, one.role) == ("admin", Role.IDENTITY_ADMIN))
    assert first.expires_at is None
    platform.add_user("second", Role.IDENTITY_ADMIN, project=None)
    second = platform.as_("second").identity
    # Theirs ends, so the organisation would be without anybody one day.
    for act in (
        lambda: second.revoke_role(first.id),
        lambda: second.disable_user("admin"),
        lambda: second.erase_user("admin", "退職者からの削除の請求"),
    ):
        with refused("last_administrator", 409):
            act()
    for user, role in (("second", Role.IDENTITY_ADMIN), ("viewer", Role.POLICY_ADMIN)):
        with refused("lasting_role_refused", 409):
            (second if role is Role.IDENTITY_ADMIN else admin).grant_role(user, role, lasting=True)
    # A robot hands out nothing, so it does not count.
    admin.create_user("robot", kind=UserKind.SERVICE)
    admin.grant_role("robot", Role.IDENTITY_ADMIN, lasting=True)
    with refused("last_administrator", 409):
        second.disable_user("admin")
    assert admin.grant_role("second", Role.IDENTITY_ADMIN, lasting=True).expires_at is None
    second.revoke_role(first.id)
    assert second.disable_user("admin").disabled_at is not None
