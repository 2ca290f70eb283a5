"""`ringi-witness`: cosign the checkpoints of audit logs, on a machine and with a key that are not the log's.

It needs Python and `cryptography`, and of the platform only the files that an auditor runs too: no database, no settings.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ringi.audit.durable import write_durably
from ringi.audit.keys import KeyUnusable, read_signers
from ringi.audit.note import Signer
from ringi.audit.ringi_verify import COSIGNATURE, LogKey, NoteInvalid, PolicyInvalid, Refused, VerifierKey, parse_policy
from ringi.witness.protocol import Witness
from ringi.witness.serving import Door
from ringi.witness.state import State

OK, FAILED, USAGE = 0, 1, 2
_EXAMPLES = """examples:
  ringi-witness keygen --name witness.example/w1 --key witness.key          prints the vkey for trust files
  ringi-witness serve --state /var/lib/ringi-witness --key witness.key --log audit.vkey --listen 127.0.0.1:8490
  ringi-witness serve --state STATE --key witness.key --log logs.txt --listen 0.0.0.0:8490 --tls-cert cert.pem --tls-key key.pem

--log takes a vkey, or a file: one vkey, or lines as in a trust file ('log VKEY', and '#sizes FIRST-LAST' under a retired key).
The state must outlive everything else and must never be restored from a backup. Run by compliance, out of reach of whoever runs the log.
"""
log = logging.getLogger("ringi.witness")


class Unusable(Refused):
    """A file or an argument that the witness cannot work with."""

    code = "witness_unusable"


def read_key(path: Path) -> Signer:
    """The witness's key, which nobody else may read. Raises Unusable."""
    try:
        (signer,) = read_signers(path, "The key", kind=COSIGNATURE)
    except KeyUnusable as error:
        raise Unusable(error.message, next_step=f"{error.next_step} ringi-witness keygen makes one.") from error
    except ValueError as error:
        raise Unusable("The file holds more than one key.", next_step="Give each witness a file of its own.") from error
    return signer


def read_logs(argument: str) -> list[LogKey]:
    """The log keys of one `--log`. Raises Unusable, NoteInvalid, PolicyInvalid."""
    if not Path(argument).is_file():
        return [LogKey(VerifierKey.parse(argument))]
    try:
        text = Path(argument).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"'{argument}' cannot be read: {error}.") from error
    if not any(line.split()[:1] == ["log"] for line in text.splitlines()):
        return [LogKey(VerifierKey.parse(text.strip()))]
    # Of a trust file only the logs count here: who else cosigns is nothing to this witness.
    kept = [line for line in text.splitlines() if line.split()[:1] in (["log"], ["#sizes"])]
    return list(parse_policy("\n".join([*kept, "quorum none", ""]).encode()).logs)


def all_logs(arguments: Sequence[str]) -> list[LogKey]:
    """Every log key once; a key that is listed twice would leave its bounds in doubt."""
    logs = [one for argument in arguments for one in read_logs(argument)]
    if len({one.key.public_key for one in logs}) != len(logs):
        raise PolicyInvalid("A log's key is listed twice.", next_step="List every key once.")
    return logs


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) >= 1 << 16:
        raise argparse.ArgumentTypeError(f"'{text}' is not HOST:PORT")
    return host.strip("[]"), int(port)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ringi-witness", description="Cosign the checkpoints of audit logs (C2SP tlog-witness), so that nobody can show two of them.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="keygen|vkey|serve")
    keygen = verbs.add_parser("keygen", help="make a key and print its vkey; an existing file is never replaced")
    keygen.add_argument("--name", required=True, help="the witness's name, a schema-less URL: witness.example/w1")
    vkey = verbs.add_parser("vkey", help="print the vkey of a key")
    serve = verbs.add_parser(
        "serve", help="answer POST add-checkpoint", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for one in (keygen, vkey, serve):
        one.add_argument("--key", required=True, type=Path, metavar="FILE", help="the witness's private key (mode 600)")
    serve.add_argument("--state", required=True, type=Path, metavar="DIR", help="what it remembers; one process, never from a backup")
    serve.add_argument("--log", required=True, action="append", metavar="VKEY|FILE", help="a log to cosign for; may be repeated")
    serve.add_argument("--listen", required=True, type=_address, metavar="HOST:PORT")
    serve.add_argument("--tls-cert", type=Path, metavar="FILE", help="with --tls-key: answer https")
    serve.add_argument("--tls-key", type=Path, metavar="FILE")
    given = parser.parse_args(argv)
    if given.verb == "serve" and (given.tls_cert is None) != (given.tls_key is None):
        parser.error("--tls-cert and --tls-key belong together")
    return given


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _keygen(given: argparse.Namespace) -> None:
    signer = Signer.generate(given.name, kind=COSIGNATURE)
    try:
        write_durably(given.key, f"{signer.export()}\n".encode(), mode=0o600, replace=False)
    except FileExistsError as error:
        raise Unusable(f"'{given.key}' is there already.", next_step="Keep it, or name another file.") from error
    _say(str(signer.verifier))


def _serve(given: argparse.Namespace) -> None:
    state = State(given.state)
    witness = Witness(read_key(given.key), all_logs(given.log), state)
    certificate = (given.tls_cert, given.tls_key) if given.tls_cert else None
    with Door(given.listen, witness, certificate=certificate) as door:
        host, port = door.server_address[:2]
        logs = ", ".join(sorted({one.key.name for one in witness.logs}))
        log.info("witness %s listens on %s:%d for %s", witness.signer.verifier, host, port, logs)
        # Killing it is always safe; SIGTERM only spares the reader a stack trace.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(OK))
        door.serve_forever()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = _arguments(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        if given.verb == "keygen":
            _keygen(given)
        elif given.verb == "vkey":
            _say(str(read_key(given.key).verifier))
        else:
            _serve(given)
    except (NoteInvalid, PolicyInvalid, Unusable) as error:
        sys.stderr.write(f"ringi-witness: {error.message} {error.next_step}".rstrip() + "\n")
        return USAGE
    except (Refused, OSError) as error:
        sys.stderr.write(f"ringi-witness: {getattr(error, 'message', error)}\n")
        return FAILED
    except KeyboardInterrupt:
        return OK
    return OK


if __name__ == "__main__":
    sys.exit(main())
