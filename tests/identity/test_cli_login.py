"""`ringi login` at the identity provider: with a browser, with a code, anew, renewed, and ended."""

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from ringi.cli.contexts import Profile, Profiles, read_profiles, save_profile, with_profile
from ringi.cli.contexts import change as change_profiles
from ringi.cli.logins import flows, renewal, trust
from ringi.cli.logins.loopback import Loopback
from ringi.cli.logins.refusals import LoginTimedOut
from ringi.identity.schemas import LoginOptions, Role
from ringi.oidc.client import Away, OAuthClient
from support.company import MAX_AGE_S, STRONG, Company, company_at
from support.identity_provider import AUDIENCE, CLI_CLIENT, IdentityProvider, identity_provider
from support.refusals import refused
from support.running_platform import Platform, Processes
from support.shell import PROGRAM, Shell

pytestmark = pytest.mark.long

BROWSER = Path(__file__).parents[1] / "support" / "browser.py"


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as running:
        yield running


@pytest.fixture(scope="module")
def company(shared_platform: Processes, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with company_at(shared_platform, provider, tmp_path_factory.mktemp("company")) as running:
        yield running


class Desk(Shell):
    """A terminal beside a browser."""

    def environ(self, **more: str) -> dict[str, str]:
        opens = shlex.join([sys.executable, str(BROWSER)]) + f" %s {shlex.quote(str(self.home / 'page'))} &"
        return super().environ(**{"BROWSER": opens} | more)

    @property
    def config(self) -> Path:
        return self.home / "config.json"

    @property
    def profile(self) -> Profile:
        return read_profiles(self.config)["default"]

    def log_in(self, *options: str) -> Any:
        """In a process of its own: the browser of a process is chosen once."""
        done = self.process("login", "--server", self.server, "--trust-server", "--json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def change(self, **login: Any) -> None:
        """Write other values into the saved login."""

        def changed(config: Profiles) -> Profiles:
            known = config.profiles["default"]
            assert known.login is not None
            token = login.pop("token", known.token)
            return with_profile(config, "default", known.model_copy(update={"token": token, "login": known.login.model_copy(update=login)}))

        change_profiles(self.config, changed)


@pytest.fixture
def desk(company: Company, tmp_path: Path) -> Desk:
    company.provider.sits(company.chief)
    return Desk(tmp_path, company.server)


def test_a_person_logs_in_with_the_browser_and_works_as_themself(company: Company, desk: Desk) -> None:
    me = desk.log_in()
    assert me["name"] == "chief"
    assert desk.json("whoami")["issuer"] == company.provider.issuer
    # Nothing but the profile's own private file holds the tokens.
    assert desk.config.stat().st_mode & 0o777 == 0o600
    page = (desk.home / "page").read_text(encoding="utf-8")
    assert page.startswith("200\n")
    assert "You can close this page" in page
    assert "閉じてかまいません" in page
    asked = company.provider.logins()["asked"]
    assert (asked["client_id"], asked["scope"], asked["code_challenge_method"]) == (CLI_CLIENT, "openid", "S256")
    assert urlsplit(asked["redirect_uri"]).hostname == "127.0.0.1"
    assert asked["state"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(asked["redirect_uri"])


def test_the_server_says_where_people_log_in(company: Company) -> None:
    said = httpx.get(f"{company.server}/auth/provider").json()
    assert said == {
        "issuer": company.provider.issuer, "cli_client_id": CLI_CLIENT, "scopes": "openid", "audience": AUDIENCE,
        "audience_parameter": "none", "step_up_acr": STRONG, "step_up_max_age_s": MAX_AGE_S,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        ({"deny": True}, "access_denied"),
        ({"iss": "https://evil.example.test"}, "issuer"),
        # It promises to say who it is (RFC 9207), so an answer that does not is not its own.
        ({"iss": "nobody"}, "issuer"),
        ({"id_claims": {"nonce": "of another login"}}, "nonce"),
        ({"id_claims": {"nonce": None}}, "nonce"),
    ],
    ids=["the person says no", "another issuer answers", "an answer of no issuer", "the nonce of another login", "no nonce"],
)
def test_an_answer_that_is_no_login_saves_nothing(company: Company, desk: Desk, person: dict[str, Any], reason: str) -> None:
    company.provider.sits(company.chief, **person)
    done = desk.process("login", "--server", company.server, "--trust-server")
    assert done.returncode == 1
    assert "[login_failed]" in done.stderr
    assert f"({reason})" in done.stderr
    assert not desk.config.exists()


def test_a_server_that_repeats_what_another_one_says_gets_no_token(company: Company, logged_in: Desk) -> None:
    """It names the real provider and the real client, so the provider would ask the person nothing."""
    before = company.provider.logins()["asked"]
    with repeating(company) as evil:
        for options in ((), ("--profile", "another"), ("--fresh",), ("--device",)):
            said = logged_in.refused("login", "--server", evil.address, *options, code="issuer_of_another_server", exit_code=2)
            assert company.server in said
        assert logged_in.profile.server == company.server
        assert company.provider.logins()["asked"] == before
        # The person was told, and says that it is theirs.
        logged_in.run("login", "--server", evil.address, "--profile", "another", "--trust-server", "--device")
        assert evil.shown, "the server that was trusted is asked who the person is"


def test_a_first_login_asks_whether_the_server_is_the_one_that_is_meant(company: Company, desk: Desk) -> None:
    before = company.provider.logins()["asked"]
    done = desk.process("login", "--server", company.server)
    assert (done.returncode, "[server_not_confirmed]" in done.stderr) == (2, True), done.stderr
    assert f"Logging in to {company.server} through {company.provider.issuer}" in done.stderr
    assert company.provider.logins()["asked"] == before
    options, said = _options(company), list[str]()
    for answer in (False, True):
        asking = trust.Asking(said.append, (lambda _text: True) if answer else (lambda _text: False))
        with nullcontext() if answer else refused("server_not_confirmed"):
            assert trust.check_server(company.server, options, Profiles(), asking, trusted=False) is False
    assert all(company.server in one and company.provider.issuer in one for one in said)
    # The second time it is known.
    desk.log_in()
    assert desk.process("login").returncode == 0


def test_a_server_that_says_that_tokens_are_for_itself_gets_none_that_is_for_another(company: Company, desk: Desk) -> None:
    with repeating(company, audience=True) as evil:
        done = desk.process("login", "--server", evil.address, "--device")
        assert (done.returncode, "[token_for_another_server]" in done.stderr) == (1, True), done.stderr
        assert evil.shown == []
    assert not desk.config.exists()
    for audience in ("https://ringi.example.test/api", ["https://ringi.example.test:443"]):
        trust.check_token("https://ringi.example.test", company.provider.token(company.chief, aud=audience))
    for wrong in (
        [],
        None,
        ["https://ringi.example.test", "https://other.example.test"],
        "https://ringi.example.test.evil.test",
        "ringi",
        "http://[x",
    ):
        with refused("token_for_another_server"):
            trust.check_token("https://ringi.example.test", company.provider.token(company.chief, aud=wrong))
    with refused("token_for_another_server"):
        trust.check_token("https://ringi.example.test", "opaque")


@dataclass
class Repeating:
    """A server that gives another's answer about logins as its own; `shown`: the credentials that came."""

    address: str
    shown: list[str]


@contextmanager
def repeating(company: Company, *, audience: bool = False) -> Iterator[Repeating]:
    said = httpx.get(f"{company.server}/auth/provider").json()
    shown: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            if "Authorization" in self.headers:
                shown.append(self.headers["Authorization"])
            body = json.dumps(said | ({"audience": evil.address + "/api"} if audience else {})).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:  # the library writes every request to standard error
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        evil = Repeating(f"http://127.0.0.1:{server.server_port}", shown)
        # thread: a server beside the test.
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield evil
        finally:
            server.shutdown()


def _options(company: Company) -> LoginOptions:
    return LoginOptions.model_validate(httpx.get(f"{company.server}/auth/provider").json())


def _prepared(company: Company, **options: Any) -> flows.Login:
    said = httpx.get(f"{company.server}/auth/provider").json() | options
    return flows.prepared(company.server, LoginOptions.model_validate(said), fresh=False)


@pytest.fixture
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "true")


@pytest.mark.usefixtures("no_browser")
def test_an_answer_with_another_state_is_not_believed_though_its_code_is_good(company: Company, desk: Desk) -> None:
    def other_persons_browser(text: str) -> None:
        """Agrees to a login of its own, and sends the answer to the port that waits."""
        url = text.splitlines()[-1]
        back = httpx.get(url).headers["location"]
        said = dict(parse_qsl(urlsplit(back).query)) | {"state": "of-another-login"}
        program = f"import httpx; httpx.get({back.partition('?')[0]!r}, params={said!r})"
        sent.append(subprocess.Popen([sys.executable, "-c", program]))

    sent: list[subprocess.Popen[bytes]] = []
    with refused("login_failed", 401) as why:
        flows.with_browser(_prepared(company), other_persons_browser)
    assert [one.wait(timeout=60) for one in sent] == [0]
    assert why.details == {"reason": "state"}


def test_the_port_takes_one_answer_at_its_own_name_and_path_and_waits_no_longer_than_it_said() -> None:
    waiting = Loopback()
    address = waiting.redirect_uri.removesuffix("/callback")
    program = (
        "import httpx, sys; a = sys.argv[1]\n"
        "print(httpx.get(a + '/favicon.ico').status_code, httpx.get(a + '/callback?code=1', headers={'Host': 'evil.example'}).status_code,\n"
        "  httpx.get(a + '/callback?code=2&code=3').status_code, httpx.get(a + '/callback?code=2').status_code)"
    )
    browser = subprocess.Popen([sys.executable, "-c", program, address], stdout=subprocess.PIPE, text=True)
    assert waiting.wait(60.0) == {"code": "2"}
    assert browser.communicate(timeout=60)[0].split() == ["404", "404", "400", "200"]
    with pytest.raises(LoginTimedOut):
        Loopback().wait(0.05)
    taken = Loopback()
    with refused("port_taken"):
        Loopback(taken.server_port)
    taken.server_close()


def test_a_person_without_a_browser_enters_a_code_elsewhere(company: Company, desk: Desk) -> None:
    company.provider.sits(company.chief, device=["authorization_pending", "authorization_pending"])
    done = desk.run("login", "--server", company.server, "--trust-server", "--device", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "chief"
    assert "WDJB-MJHT" in done.stderr
    assert desk.profile.login is not None
    assert desk.profile.login.refresh_token


def test_a_client_that_is_told_to_slow_down_asks_less_often(company: Company) -> None:
    company.provider.sits(company.chief, device=["authorization_pending", "slow_down", "authorization_pending"])
    pauses: list[float] = []
    flows.with_code(_prepared(company), lambda _text: None, pause=pauses.append)
    assert pauses == [0.05, 0.05, 5.05, 5.05]


@pytest.mark.parametrize("word", ["access_denied", "expired_token"])
def test_a_code_that_was_refused_or_is_over_ends_the_login(company: Company, desk: Desk, word: str) -> None:
    company.provider.sits(company.chief, device=["authorization_pending", word])
    done = desk.run("login", "--server", company.server, "--trust-server", "--device")
    assert (done.returncode, "[login_failed]" in done.stderr, f"({word})" in done.stderr) == (1, True, True), done.stderr
    assert not desk.config.exists()


def test_a_code_that_nobody_enters_is_given_up_when_it_is_over(company: Company) -> None:
    company.provider.sits(company.chief, device=["authorization_pending"] * 9, device_lasts_s=0.2)
    pauses: list[float] = []
    with refused("login_timed_out"):
        flows.with_code(_prepared(company), lambda _text: None, pause=pauses.append)
    assert 4 <= len(pauses) <= 5


@pytest.fixture
def logged_in(desk: Desk) -> Desk:
    desk.ok("login", "--server", desk.server, "--trust-server", "--device")
    return desk


def test_a_token_that_is_over_is_renewed_and_the_refresh_token_changes_with_it(company: Company, logged_in: Desk) -> None:
    before = logged_in.profile
    assert before.login is not None
    logged_in.change(over_at=1.0)
    assert logged_in.json("whoami")["name"] == "chief"
    after = logged_in.profile
    assert after.login is not None
    assert after.token != before.token
    assert after.login.refresh_token != before.login.refresh_token
    assert (after.login.over_at or 0) > 1.0


def test_a_token_that_the_server_finds_over_is_renewed_whatever_this_machines_clock_says(company: Company, logged_in: Desk) -> None:
    logged_in.change(token=company.provider.token(company.chief, exp=1), over_at=None)
    assert logged_in.json("whoami")["name"] == "chief"
    # A write is sent again, too, and done once.
    logged_in.change(token=company.provider.token(company.chief, exp=1), over_at=None)
    logged_in.ok("projects", "create", "renewed", "--display-name", "更新")


def test_processes_that_find_the_token_over_at_the_same_time_renew_it_once(company: Company, logged_in: Desk) -> None:
    before = company.provider.logins()
    logged_in.change(over_at=1.0)
    several = [
        subprocess.Popen([*PROGRAM, "whoami", "--json"], env=logged_in.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in several:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["name"] == "chief"
    after = company.provider.logins()
    # A refresh token that came twice would have ended the login.
    assert (after["refreshed"] - before["refreshed"], after["ended"]) == (1, before["ended"])


def test_a_login_that_cannot_be_renewed_says_how_to_log_in_again(company: Company, logged_in: Desk) -> None:
    logged_in.change(over_at=1.0, refresh_token="of-nobody")
    said = logged_in.refused("whoami", code="login_over")
    assert f"ringi login --server {company.server} --profile default" in said
    logged_in.change(over_at=1.0, refresh_token=None)
    logged_in.refused("whoami", code="login_over")


def test_a_running_command_takes_no_token_that_was_saved_for_another_server_or_person(company: Company, logged_in: Desk) -> None:
    began = logged_in.profile
    assert began.login is not None
    assert (began.token, began.login.subject) != (None, None)
    whose = renewal.Whose(began.server, began.login)

    def saved_meanwhile(server: str = began.server, **login: Any) -> Profile:
        return Profile(server=server, token="newer", login=began.login.model_copy(update=login) if began.login else None)

    for meanwhile, why in (
        (saved_meanwhile("https://other.example.test"), "it is of https://other.example.test now"),
        (saved_meanwhile(issuer="https://login.example.test"), "it is a login at https://login.example.test now"),
        (saved_meanwhile(subject="別の人"), "somebody else has logged in"),
    ):
        save_profile(logged_in.config, "default", meanwhile, replace=True)
        for stale in (began.token or "", "newer"):
            with refused("login_over", 401) as over:
                renewal.renewed(logged_in.config, "default", stale, of=whose)
            assert why in over.message
            assert f"--server {company.server} " in over.next_step
        assert logged_in.profile == meanwhile
    for known in (saved_meanwhile(), saved_meanwhile(subject=None)):
        save_profile(logged_in.config, "default", known, replace=True)
        assert renewal.renewed(logged_in.config, "default", began.token or "", of=whose).token == "newer"


def test_a_login_that_another_one_replaces_is_ended_at_the_provider(company: Company, logged_in: Desk) -> None:
    for how in (("--device",), ("--device", "--fresh"), ("--token", company.provider.token(company.chief))):
        before = company.provider.logins()["ended"]
        logged_in.ok("login", *how)
        assert company.provider.logins()["ended"] == before + 1
        assert logged_in.json("whoami")["name"] == "chief"
    before = company.provider.logins()["ended"]
    logged_in.ok("login", "--device", "--trust-server")
    assert company.provider.logins()["ended"] == before, "a token has no login to end"
    # The new one goes on.
    logged_in.change(over_at=1.0)
    assert logged_in.json("whoami")["name"] == "chief"


def test_what_needs_a_fresh_login_names_the_command_and_that_command_gives_it(company: Company, logged_in: Desk) -> None:
    company.provider.sits(company.chief, auth_time=MAX_AGE_S + 60, acr="urn:example:password")
    logged_in.log_in()
    said = logged_in.refused("users", "create", "taro", "--display-name", "太郎", code="insufficient_user_authentication")
    assert "ringi login --fresh." in said
    assert "ringi login --fresh --profile default." in logged_in.refused(
        "users", "create", "taro", "--profile", "default", code="insufficient_user_authentication"
    )
    # The provider proves the person anew, as surely as the server asks for.
    company.provider.sits(company.chief, auth_time=MAX_AGE_S + 60)
    done = logged_in.process("login", "--fresh")
    assert done.returncode == 0, done.stderr
    asked = company.provider.logins()["asked"]
    assert (asked["prompt"], asked["max_age"], asked["acr_values"]) == ("login", "0", STRONG)
    logged_in.ok("users", "create", "taro", "--display-name", "太郎")


def test_a_login_is_no_token_for_a_puller(logged_in: Desk) -> None:
    assert "ringi tokens mine" in logged_in.refused("pull-env", "production", code="login_is_no_pull_token", exit_code=2)


def test_a_logout_ends_the_login_here_and_at_the_provider(company: Company, logged_in: Desk) -> None:
    before = company.provider.logins()["ended"]
    login = logged_in.profile.login
    assert login is not None
    assert logged_in.json("logout")["revoked"] is True
    assert company.provider.logins()["ended"] == before + 1
    kept = logged_in.config.read_text()
    assert login.refresh_token is not None
    assert login.refresh_token not in kept
    assert logged_in.profile == Profile(server=company.server, token=None)
    logged_in.refused("whoami", code="no_token", exit_code=2)


def test_a_logout_forgets_also_where_the_provider_is_away(logged_in: Desk) -> None:
    logged_in.change(revocation_endpoint="http://127.0.0.1:9/revoke")
    done = logged_in.run("logout", "--json")
    assert json.loads(done.stdout)["revoked"] is False
    assert "not ended" in done.stderr
    assert logged_in.profile.token is None


def test_the_audience_is_asked_for_by_the_parameter_that_the_provider_knows(company: Company) -> None:
    for name in ("resource", "audience"):
        login = _prepared(company, audience_parameter=name)
        flows.with_code(login, lambda _text: None, pause=lambda _s: None)
        assert company.provider.logins()["asked"][name] == AUDIENCE
        saved = login.profile(flows.with_code(login, lambda _text: None, pause=lambda _s: None), project=None).login
        assert saved is not None
        assert saved.asked == {name: AUDIENCE}


def test_a_provider_at_an_address_that_others_could_listen_at_is_not_used(company: Company) -> None:
    with refused("issuer_unsafe"):
        _prepared(company, issuer="http://login.example.test")
    with refused("no_login_here"):
        _prepared(company, cli_client_id=None)
    with refused("provider_unreachable"):
        _prepared(company, issuer="http://127.0.0.1:9")
    with refused("provider_unreachable") as why:
        _prepared(company, issuer=company.provider.issuer + "/")
    assert "calls itself" in why.message
    # Addresses that nobody can read are refusals too.
    with refused("issuer_unsafe"):
        _prepared(company, issuer="https://[x")
    for wrong in ("https://127.0.0.1:99999", "https://a\x01b"):
        with refused("provider_unreachable"):
            _prepared(company, issuer=wrong)
    with pytest.raises(Away):
        OAuthClient("client", "https://127.0.0.1:99999/token").by_code("code", verifier="v", redirect_uri="http://127.0.0.1/")


def test_where_people_are_local_users_a_token_is_asked_for_as_before(platform: Platform, tmp_path: Path) -> None:
    shell = Shell(tmp_path, platform.server)
    shell.refused("login", "--server", platform.server, "--device", code="no_login_here", exit_code=2)
    done = shell.process("login", "--server", platform.server, "--json", stdin=platform.tokens["viewer"] + "\n")
    assert json.loads(done.stdout)["name"] == "viewer", done.stderr
    assert read_profiles(tmp_path / "config.json")["default"].login is None
    assert shell.json("logout")["revoked"] is False


def test_a_token_goes_in_as_before_where_there_is_a_provider(company: Company, desk: Desk) -> None:
    _, subject = company.person(Role.AUDITOR)
    save_profile(desk.config, "default", Profile(server=company.server, token="old", project="support"), replace=False)
    done = desk.process("login", "--token", "-", stdin=company.provider.token(subject) + "\n")
    assert done.returncode == 0, done.stderr
    assert (desk.profile.login, desk.profile.project) == (None, "support")
    assert os.linesep not in (desk.profile.token or "")
