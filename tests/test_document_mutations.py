"""A short run of the campaign in benchmarks/mutations.py: damaged documents are taken or refused in
one line."""

from collections import Counter

import pytest

from scopeworks.tests import document_mutations as mutations


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_the_document_that_is_damaged_is_sound_before(tmp_path, kind):
    mutations.write(tmp_path / "it", mutations.KINDS[kind].files())
    assert mutations.KINDS[kind].read(tmp_path / "it") == mutations.READ


@pytest.mark.parametrize("count", [280, pytest.param(10_000, marks=pytest.mark.slow)])
def test_damaged_documents_are_taken_or_refused_in_one_line(count):
    found = Counter(mutations.outcome(1, case) for case in range(count))
    clear = {mutations.READ, mutations.REFUSED, mutations.FOUND}
    assert {outcome for _, outcome in found} <= clear, found
    for kind in mutations.KINDS:
        assert found[kind, mutations.REFUSED] > 0 or kind == "array's metadata"  # read by others


def test_memory_and_time_of_a_case_are_bounded(monkeypatch):
    with pytest.raises(MemoryError), mutations._bounded():
        bytearray(3 * 2**30)
    monkeypatch.setattr(mutations, "SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="a case must take at most"), mutations._bounded():
        while True:
            pass
