"""A short run of the campaign in benchmarks/mutations.py: changed documents are refused in one
line, and `verify` finds what a reader refuses."""

from collections import Counter

from scopeworks.tests.store import forged_stores as mutations


def test_changed_documents_are_refused_or_read_and_verify_misses_none():
    found = Counter(mutations.outcome(1, case)[1] for case in range(200))
    assert found.keys() == {mutations.REFUSED, mutations.READ}
    assert found[mutations.REFUSED] > 150


def test_documents_are_sound_again_after_each_case():
    mutations.outcome(1, 0)
    assert mutations._read("commit") == mutations._read("tokens") == mutations.READ
