import socket, subprocess, time
from cli.test_shell import silent
from ringi.cli.contexts import Profile, save_profile, set_project, use_profile
from support.running_platform import new_organization
def test_x(tmp_path, shared_platform):
    path = tmp_path / "config.json"
    with socket.create_server(("127.0.0.1", 0)) as mute:
        save_profile(path, "mute", Profile(server=f"http://127.0.0.1:{mute.getsockname()[1]}", token="hf_rgiX"), replace=False)
        use_profile(path, "mute")
        t = time.monotonic(); assert silent(path); print("no project", time.monotonic() - t)
        set_project(path, "mute", "support")
        t = time.monotonic(); assert silent(path); print("project", time.monotonic() - t)
    for _ in range(5):
        t = time.monotonic()
        with new_organization(shared_platform): print("org", time.monotonic() - t)
    assert 0
