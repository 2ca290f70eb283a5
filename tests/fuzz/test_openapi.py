"""Every operation of the API's document, called with what its schema allows and with what it does not: no server error, no undocumented answer.

All checks of schemathesis. Sampled here: some drawn requests an operation by one caller. `make proof` adds the boundary values of every
parameter and body, more callers, and RINGI_FUZZ_EXAMPLES drawn requests from another seed each time. RINGI_FUZZ_SEED gives one; it is printed.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringi.identity.schemas import Role
from support.running_platform import Platform
from support.seeds import drawn_seed, kept_seed

pytestmark = pytest.mark.long

SEED = "RINGI_FUZZ_SEED"

# Domain refusals (400) and what another change forbids (409, 412, 428) are right answers to a request that fits the schema, and so is 422: no schema
# says which fields a list has, or what a cursor may be.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 400, 401, 403, 404, 409, 412, 422, 428, 429, 507]

# 431: a URL that is too long for the web server, which the platform never sees.
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 415, 422, 428, 429, 431]

# Names that exist, so that requests get past 404.
[parameters]
"path.project" = "support"
"path.dataset" = "faq"
"path.channel" = "production"
"path.environment" = "production"
"""
# With these the caller ends its own token or role, and every later answer is 401 or 403; they are called last, with a token of their own.
ENDS_THE_CALLER = r"^/api/v1/(tokens/\{token_id\}|memberships/\{membership_id\})$"

# Beside each of these stands a GET with an id or a name in the place of the last word, and answers for it: a dataset may be called "trace".
BESIDE_A_READ = r"/(runs/check|datasets/trace|gates/together|measurements/imports)$"
METHODS_APART = ("--exclude-checks", "unsupported_method,allow_header_conformance")


def fuzz(platform: Platform, folder: Path, user: str, *selection: str, phases: str, examples: int, seed: int) -> None:
    (folder / "schemathesis.toml").write_text(CONFIG)
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis", "--config-file", folder / "schemathesis.toml", "run", f"{platform.server}/openapi.json",
            "-H", f"Authorization: Bearer {platform.tokens[user]}", "--checks", "all", "--phases", phases,
            "--max-examples", str(examples), "--continue-on-failure", "--seed", str(seed), "--no-color", *selection,
        ],
        cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    print(f"seed {seed}")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]


@pytest.fixture
def peopled(platform: Platform) -> Platform:
    """One caller with every role that one user may hold reaches past the refusals for want of a role."""
    platform.add_user("fuzz", Role.CONTRIBUTOR, Role.REVIEWER, Role.DEPLOYER)
    platform.as_("contributor").datasets.create("support", "faq")
    platform.as_("deployer").releases.create_channel("support", "production", environment="production")
    return platform


def test_no_request_makes_the_server_fail_or_answer_what_is_not_documented(peopled: Platform, tmp_path: Path) -> None:
    mine = ("--include-path-regex", "^/api/v1", "--exclude-path-regex", ENDS_THE_CALLER)
    fuzz(peopled, tmp_path, "fuzz", *mine, phases="fuzzing", examples=1, seed=kept_seed(SEED))


@pytest.mark.proof
@pytest.mark.timeout(3 * 3600)
def test_no_request_makes_the_server_fail_in_full(peopled: Platform, tmp_path: Path) -> None:
    examples, seed = int(os.environ.get("RINGI_FUZZ_EXAMPLES", "50")), drawn_seed(SEED)
    mine = ("--include-path-regex", "^/api/v1", "--exclude-path-regex", f"{ENDS_THE_CALLER}|{BESIDE_A_READ}")
    beside = ("--include-path-regex", BESIDE_A_READ, *METHODS_APART)
    for user in ("fuzz", "admin", "auditor"):
        for selection in (beside, mine):
            fuzz(peopled, tmp_path, user, *selection, phases="examples,coverage,fuzzing", examples=examples, seed=seed)
    fuzz(peopled, tmp_path, "admin", "--include-path-regex", ENDS_THE_CALLER, phases="coverage,fuzzing", examples=examples, seed=seed)
