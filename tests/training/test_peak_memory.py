"""The most memory that a process held, from when it was asked to forget what came before."""

import torch

from ringi_workers import peak_memory

MIB, CPU = 2**20, torch.device("cpu")


def test_the_peak_stays_after_what_was_held_is_given_back_and_begins_anew_when_it_is_forgotten() -> None:
    peak_memory.forget(CPU)
    before = peak_memory.bytes_of(CPU)
    held = bytearray(b"x") * (96 * MIB)
    during = peak_memory.bytes_of(CPU)
    del held
    assert during - before > 90 * MIB
    # Linux counts pages in batches, so the peak may be a few of them less when it is read again.
    assert peak_memory.bytes_of(CPU) - before > 90 * MIB
    peak_memory.forget(CPU)
    assert peak_memory.bytes_of(CPU) < during - 48 * MIB
