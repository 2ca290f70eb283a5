"""A tracking server that names files outside of its folders, lies about sizes, or never ends: the import says no and goes on."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from moving_in.world import BASE_NAME, Mover, by_version
from ringi.adapters.files import UploadFileNotAllowed
from ringi.cli.moving.mlflow_api import TrackingServer
from ringi.cli.moving.mlflow_source import MlflowSource
from ringi.cli.moving.refusals import SourceRefused, SourceUnreachable
from ringi.kit.errors import RingiError
from support.hub_client import free_port
from support.story import BASE
from support.waiting import until

pytestmark = pytest.mark.timeout(900)
HERE = Path(__file__).parent
GOOD = {"MLFLOW_TRACKING_TOKEN": "good"}


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, str(HERE / "hostile_mlflow.py"), str(port)])

    def answers() -> bool:
        try:
            return httpx.get(f"{url}/api/2.0/mlflow/registered-models/search").status_code == 200
        except httpx.TransportError:
            return False

    until(answers)
    yield url
    process.terminate()
    process.wait(timeout=10)


def looked_at(url: str, name: str) -> str:
    """The code with which a version of the model is refused or left."""
    with TrackingServer(url, {}) as server:
        (found,) = MlflowSource(server, [name], limit=10_000).versions(name)
        with pytest.raises(RingiError) as refusal:
            found.look()
    return refusal.value.code


def fetched(url: str, name: str, target: Path) -> str:
    """The code with which its download is refused."""
    with TrackingServer(url, {}) as server:
        (found,) = MlflowSource(server, [name], limit=10_000).versions(name)
        sight = found.look()
        with pytest.raises(RingiError) as refusal:
            sight.fetch(target, lambda _got, _all: None)
    return refusal.value.code


@pytest.mark.parametrize("name", ["parent", "dots", "absolute", "deeper", "backslash", "encoded", "control", "override", "empty"])
def test_a_listing_that_names_another_place_is_refused_whole(hostile: str, name: str) -> None:
    assert looked_at(hostile, name) == "artifact_path_unsafe"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("uri_up", "artifact_path_unsafe"),
        ("uri_encoded_up", "artifact_path_unsafe"),
        ("uri_other_host", "artifacts_out_of_reach"),
        ("uri_web", "artifacts_out_of_reach"),
        ("uri_file", "artifacts_out_of_reach"),
        ("uri_s3", "artifacts_out_of_reach"),
        ("circle", "source_not_understood"),
        ("moved", "source_not_understood"),
        ("huge_listing", "artifact_too_large"),
        ("wide", "artifact_too_large"),
        ("deep", "no_peft_folder"),
        ("not_ready", "version_not_ready"),
    ],
)
def test_what_a_version_may_not_make_the_import_do(hostile: str, name: str, code: str) -> None:
    assert looked_at(hostile, name) == code


@pytest.mark.parametrize(
    ("name", "code"), [("long", "artifact_incomplete"), ("short", "artifact_incomplete"), ("endless", "artifact_too_large")]
)
def test_a_file_that_is_not_as_long_as_announced_is_not_taken(hostile: str, tmp_path: Path, name: str, code: str) -> None:
    assert fetched(hostile, name, tmp_path) == code
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert written <= 10_000, "an endless file is cut at the limit"


def test_pickled_weights_are_refused_before_they_are_moved(hostile: str) -> None:
    assert looked_at(hostile, "pickle") == UploadFileNotAllowed.code


def test_the_token_is_sent_and_a_refusal_names_the_variables(hostile: str) -> None:
    with TrackingServer(f"{hostile}/private", GOOD) as server:
        assert "plain" in {model.name for model in server.models()}
    wrong = {"MLFLOW_TRACKING_USERNAME": "aiko", "MLFLOW_TRACKING_PASSWORD": "x"}
    with (
        TrackingServer(f"{hostile}/private", wrong) as server,
        pytest.raises(SourceRefused, match="MLFLOW_TRACKING_TOKEN") as refusal,
    ):
        server.models()
    assert "who are you?" in refusal.value.message


def test_a_server_that_is_away_is_told_apart() -> None:
    with TrackingServer(f"http://127.0.0.1:{free_port()}", {}) as server, pytest.raises(SourceUnreachable):
        server.models()


def test_one_hostile_model_does_not_stop_the_others_and_names_that_collide_are_told(hostile: str, mover: Mover) -> None:
    names = ("parent", "uri_s3", "short", "FAQ Bot", "faq-bot", "plain")
    patterns = [word for name in names for word in ("--name", name)]
    found = by_version(mover.report("mlflow", "--server", hostile, "--base", BASE, "--trained-on", BASE_NAME, *patterns, exit_code=1))
    assert {name: (line["outcome"], line["code"]) for (name, _), line in found.items()} == {
        "parent": ("refused", "artifact_path_unsafe"),
        "uri_s3": ("skipped", "artifacts_out_of_reach"),
        "short": ("failed", "artifact_incomplete"),
        "FAQ Bot": ("refused", "adapter_name_collides"),
        "faq-bot": ("refused", "adapter_name_collides"),
        # A thousand zero bytes are no safetensors file: the platform's own refusal.
        "plain": ("refused", "weights_not_safetensors"),
    }
    away = mover.run("import", "mlflow", "--server", f"http://127.0.0.1:{free_port()}", "--project", "support", "--base", BASE)
    assert (away.returncode, "[source_unreachable]" in away.stderr) == (3, True)
    denied = mover.run("import", "mlflow", "--server", f"{hostile}/private", "--project", "support", "--base", BASE)
    assert (denied.returncode, "[source_refused]" in denied.stderr) == (1, True)
