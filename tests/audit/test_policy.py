"""Trust files (C2SP tlog-policy) and what they accept: which keys, at which sizes, and how many witnesses."""

import pytest

from ringi.audit.note import Signer, cosign, sign_checkpoint, sign_note
from ringi.audit.ringi_verify import (
    COSIGNATURE,
    Checkpoint,
    NoteInvalid,
    Policy,
    PolicyInvalid,
    QuorumMissing,
    Refused,
    VerifierKey,
    decode_base64,
    encode_base64,
    parse_policy,
)

LOG = Signer.generate("example.org/audit/1")
NEXT = Signer.generate("example.org/audit/1")
WITNESSES = [Signer.generate(f"witness.example/証人{number}", kind=COSIGNATURE) for number in range(4)]
CHECKPOINT = Checkpoint(LOG.name, 42, bytes(range(32)))
NOTE = sign_checkpoint(CHECKPOINT, LOG)
AT = 1_763_820_000


def trust(*lines: str) -> Policy:
    witnesses = [f"witness W{number} {one.verifier} https://witness.example/{number}" for number, one in enumerate(WITNESSES)]
    return parse_policy("\n".join([f"log {LOG.verifier}", *witnesses, *lines, ""]).encode())


def cosigned(*numbers: int) -> bytes:
    return NOTE + b"".join(cosign(NOTE, WITNESSES[number], at=AT) for number in numbers)


def test_a_trust_file_with_comments_tabs_and_urls_is_read() -> None:
    text = f"# 監査人へ\n\n  log\t{LOG.verifier}  https://example.org/audit/ \n\twitness 証人 {WITNESSES[0].verifier}\nquorum 証人\n"
    policy = parse_policy(text.encode())
    assert [str(log.key) for log in policy.logs] == [str(LOG.verifier)]
    assert policy.open(cosigned(0)).witnesses == ["証人"]


def test_a_quorum_of_groups_counts_each_witness_once() -> None:
    policy = trust("group two 2 W0 W1 W2", "group both all two W3", "quorum both")
    accepted = policy.open(cosigned(0, 2, 3))
    assert (accepted.checkpoint, accepted.signers, accepted.witnesses) == (CHECKPOINT, [str(LOG.verifier)], ["W0", "W2", "W3"])
    for too_few in ((), (0, 1), (0, 3), (3,), (0, 0, 3)):
        with pytest.raises(QuorumMissing):
            policy.open(cosigned(*too_few))
    assert policy.open(cosigned(), cosigned=False).checkpoint == CHECKPOINT
    assert trust("group any any W0 W1", "quorum any").open(cosigned(1)).witnesses == ["W1"]
    assert trust("quorum none").open(cosigned()).witnesses == []


def test_a_cosignature_is_for_its_time_and_its_checkpoint_only() -> None:
    policy, line = trust("quorum W0"), cosign(NOTE, WITNESSES[0], at=AT)
    assert policy.open(NOTE + line).witnesses == ["W0"]
    other = sign_checkpoint(Checkpoint(LOG.name, 43, bytes(32)), LOG)
    with pytest.raises(NoteInvalid, match="does not fit"):
        policy.open(other + line)
    dash, name, encoded = line.decode().rstrip("\n").split(" ")
    later = bytearray(decode_base64(encoded))
    later[11] ^= 1
    with pytest.raises(NoteInvalid):
        policy.open(NOTE + f"{dash} {name} {encode_base64(bytes(later))}\n".encode())


def test_no_changed_byte_of_a_cosigned_checkpoint_reaches_the_quorum() -> None:
    policy, note = trust("quorum W1"), cosigned(1)
    for at in range(len(note)):
        for bit in range(8):
            broken = bytearray(note)
            broken[at] ^= 1 << bit
            with pytest.raises(NoteInvalid):
                policy.open(bytes(broken))


def test_a_retired_key_speaks_for_the_sizes_of_its_time_only() -> None:
    rotated = parse_policy(f"log {LOG.verifier}\n#sizes 0-41\nlog {NEXT.verifier}\n#sizes 40-9999\nquorum none\n".encode())
    assert rotated.open(sign_checkpoint(CHECKPOINT, NEXT)).signers == [str(NEXT.verifier)]
    assert rotated.open(sign_checkpoint(Checkpoint(LOG.name, 41, bytes(32)), LOG, NEXT)).signers == [str(LOG.verifier), str(NEXT.verifier)]
    for note in (NOTE, sign_checkpoint(Checkpoint(LOG.name, 39, bytes(32)), NEXT)):
        with pytest.raises(NoteInvalid, match="retired"):
            rotated.open(note)


def test_a_log_that_the_trust_file_does_not_know_is_refused() -> None:
    stranger = Signer.generate("example.org/audit/2")
    with pytest.raises(NoteInvalid, match="knows no log"):
        trust("quorum none").open(sign_checkpoint(Checkpoint(stranger.name, 1, bytes(32)), stranger))
    with pytest.raises(NoteInvalid, match="no signature"):
        trust("quorum none").open(sign_checkpoint(CHECKPOINT, NEXT))


def test_a_key_signs_what_its_kind_signs_and_nothing_else() -> None:
    with pytest.raises(NoteInvalid, match="cosignatures"):
        sign_note("text\n", WITNESSES[0])
    with pytest.raises(NoteInvalid, match="no witness"):
        cosign(NOTE, LOG, at=AT)
    with pytest.raises(NoteInvalid):
        VerifierKey.parse(str(WITNESSES[0].verifier))
    assert Signer.parse(WITNESSES[0].export(), kind=COSIGNATURE) == WITNESSES[0]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["quorum none", "quorum none"],
        ["quorum W9"],
        ["quorum g", "group g any W0"],
        ["group g 3 W0 W1", "quorum g"],
        ["group g 0 W0", "quorum g"],
        ["group g 01 W0", "quorum g"],
        ["group g most W0", "quorum g"],
        ["group g any", "quorum g"],
        ["group g any W0 W0", "quorum g"],
        ["group g any W0", "group h any W0", "quorum h"],
        ["group W0 any W1", "quorum W0"],
        ["group none any W1", "quorum none"],
        ["group g any none", "quorum g"],
        [f"log {LOG.verifier}", "quorum none"],
        [f"witness W9 {WITNESSES[0].verifier}", "quorum none"],
        [f"witness W9 {LOG.verifier}", "quorum none"],
        ["trust me", "quorum none"],
        ["quorum none\r"],
        ["quorum none\x00"],
    ],
)
def test_a_trust_file_with_two_meanings_or_none_is_refused(lines: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        trust(*lines)
    assert refused.value.code in {"audit_policy_invalid", "audit_note_invalid"}


def test_a_cut_trust_file_or_one_without_a_log_is_refused() -> None:
    for data in (b"", b"quorum none\n", f"log {LOG.verifier}\nquorum none".encode()):
        with pytest.raises(PolicyInvalid):
            parse_policy(data)
