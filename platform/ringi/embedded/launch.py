"""A script, run by path: start one program, optionally detached from everything and as another user.

    python -I -S launch.py {"command": [...], "cwd": ..., "log": ..., "user": ..., "reach": ..., "detach": ...}

Detached, it prints the new process id and leaves; the program belongs to its own session and to nobody waiting for it. Otherwise it becomes
the program. Standard library only, and run without `site`, so that it costs some 15 ms.
"""

import ctypes
import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

# linux/prctl.h and linux/capability.h
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def _become(user: str, *, reach: bool) -> None:
    """Drop root for good. `reach` keeps the single capability to pass folders of mode 0700, such as /root, on the way to the program's files."""
    account = pwd.getpwnam(user)
    libc = ctypes.CDLL(None, use_errno=True)
    if reach:
        _checked(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if reach:
        bit = 1 << _CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        # Effective, permitted, inheritable: the low 32 capabilities first, then the high ones.
        sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
        _checked(libc.capset(header, sets))
        _checked(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "this system does not let root keep a capability while changing user")


def _run(plan: dict[str, Any]) -> None:
    """Become the program: files first, as the first user, then the user, then exec."""
    os.chdir(plan["cwd"])
    if plan["log"]:
        Path(plan["log"]).parent.mkdir(parents=True, exist_ok=True)
        output = os.open(plan["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if plan["user"]:
        _become(plan["user"], reach=plan["reach"])
    os.execv(plan["command"][0], plan["command"])  # noqa: S606  # there is no shell, on purpose


def main() -> None:
    """Read the plan from the first argument and carry it out."""
    plan = json.loads(sys.argv[1])
    if not plan["detach"]:
        _run(plan)
    # Twice forked, the program is adopted by init: it is never a zombie of the process that asked for it.
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        child = os.fork()
        if child:
            os.write(write, str(child).encode())
            os._exit(0)
        os.close(read)
        os.close(write)
        try:
            _run(plan)
        finally:
            os._exit(127)
    os.wait()
    sys.stdout.write(os.read(read, 32).decode())


main()
