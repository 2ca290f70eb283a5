"""Notes and checkpoints against published vectors, and against every small change of their bytes."""

import base64

import pytest

from ringi.audit.note import Signer, sign_checkpoint, sign_note
from ringi.audit.ringi_verify import Checkpoint, NoteInvalid, VerifierKey, encode_base64, open_checkpoint, open_note

# The published example of golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
GO_NOTE = f"{GO_TEXT}\n\u2014 PeterNeumann {GO_SIGNATURE}\n".encode()
# The verifier key of the C2SP signed-note example.
C2SP_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"

ROOT = bytes(range(32))


@pytest.fixture(scope="module")
def log() -> Signer:
    return Signer.generate("example.org/audit/1")


def test_published_keys_are_read_and_written_back_unchanged() -> None:
    assert [str(VerifierKey.parse(text)) for text in (GO_VKEY, C2SP_VKEY)] == [GO_VKEY, C2SP_VKEY]
    signer = Signer.parse(GO_SKEY)
    assert (signer.export(), str(signer.verifier)) == (GO_SKEY, GO_VKEY)


def test_the_published_note_verifies_and_is_reproduced_byte_for_byte() -> None:
    assert open_note(GO_NOTE, VerifierKey.parse(GO_VKEY)) == GO_TEXT
    assert sign_note(GO_TEXT, Signer.parse(GO_SKEY)) == GO_NOTE


def test_a_checkpoint_survives_signing_and_opening(log: Signer) -> None:
    checkpoint = Checkpoint(log.name, 42, ROOT)
    note = sign_checkpoint(checkpoint, log)
    assert note.decode().split("\n")[:3] == ["example.org/audit/1", "42", base64.b64encode(ROOT).decode()]
    assert open_checkpoint(note, log.verifier) == checkpoint


def test_a_witness_line_of_an_unknown_key_is_left_alone_and_never_enough(log: Signer) -> None:
    note = sign_checkpoint(Checkpoint(log.name, 1, ROOT), log)
    witness = Signer.generate("witness.example/w1")
    line = sign_note(open_note(note, log.verifier), witness).decode().rpartition("\n\n")[2].encode()
    assert open_checkpoint(note + line, log.verifier).size == 1
    with pytest.raises(NoteInvalid, match="carries no signature"):
        open_note(note, witness.verifier)


def test_no_changed_byte_of_a_signed_checkpoint_is_accepted(log: Signer) -> None:
    note = sign_checkpoint(Checkpoint(log.name, 1234, ROOT), log)
    for at in range(len(note)):
        for bit in range(8):
            broken = bytearray(note)
            broken[at] ^= 1 << bit
            with pytest.raises(NoteInvalid):
                open_checkpoint(bytes(broken), log.verifier)
    for cut in range(len(note)):
        with pytest.raises(NoteInvalid):
            open_checkpoint(note[:cut], log.verifier)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        ("\u2014", "-"),
        ("\u2014", "\u2013"),
        ("\n\n", "\n\n\n"),
        ("\n\n", "\n"),
        ("\u2014 ", "\u2014  "),
        (" example", "\u00a0example"),
    ],
)
def test_other_line_endings_dashes_and_spacings_are_refused(log: Signer, old: str, new: str) -> None:
    note = sign_checkpoint(Checkpoint(log.name, 7, ROOT), log).decode()
    assert old in note
    with pytest.raises(NoteInvalid):
        open_checkpoint(note.replace(old, new).encode(), log.verifier)


@pytest.mark.parametrize(
    "text",
    [
        f"o\n007\n{encode_base64(ROOT)}\n",
        f"o\n-1\n{encode_base64(ROOT)}\n",
        f"o\n+1\n{encode_base64(ROOT)}\n",
        f"o\n\uff11\n{encode_base64(ROOT)}\n",
        f"o\n1\n{encode_base64(ROOT)}\nextension\n",
        f"o\n1\n{encode_base64(ROOT[:31])}\n",
        f"o\n1\n{encode_base64(ROOT)[:-1]}\n",
        f"o\n1\n{encode_base64(ROOT)[:-2]}9=\n",
        f"\n1\n{encode_base64(ROOT)}\n",
        "o\n1\n",
    ],
)
def test_a_checkpoint_has_one_spelling_even_when_the_key_signs_another(text: str) -> None:
    key = Signer.generate("o")
    with pytest.raises(NoteInvalid):
        open_checkpoint(sign_note(text, key), key.verifier)


def test_a_checkpoint_of_another_log_under_the_same_key_is_refused() -> None:
    key = Signer.generate("example.org/audit/1")
    note = sign_note(Checkpoint("example.org/audit/2", 1, ROOT).text, key)
    with pytest.raises(NoteInvalid, match="audit/2"):
        open_checkpoint(note, key.verifier)
    with pytest.raises(NoteInvalid, match="cannot sign"):
        sign_checkpoint(Checkpoint("example.org/audit/2", 1, ROOT), key)


def test_no_changed_character_of_a_key_is_accepted() -> None:
    for at in range(len(GO_VKEY)):
        for end in range(at + 1, len(GO_VKEY) + 1):
            if (at, end) != (0, len(GO_VKEY)):
                with pytest.raises(NoteInvalid):
                    VerifierKey.parse(GO_VKEY[at:end])
        with pytest.raises(NoteInvalid):
            VerifierKey.parse(GO_VKEY[:at] + chr(ord(GO_VKEY[at]) + 1) + GO_VKEY[at + 1 :])


def test_a_malformed_secret_key_is_refused_without_repeating_it() -> None:
    with pytest.raises(NoteInvalid) as refused:
        Signer.parse(GO_SKEY[:-1])
    assert GO_SKEY[-20:-1] not in str(refused.value)
    assert "AYEK" not in repr(Signer.parse(GO_SKEY))
