"""The names that users import."""

import pytest

import scopeworks


def test_public_names_are_the_real_classes():
    from scopeworks.store.read.reader import ActivationStore
    from scopeworks.train.sae.sae import SAE

    assert scopeworks.ActivationStore is ActivationStore
    assert scopeworks.SAE is SAE


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = scopeworks.Nothing  # pyright: ignore[reportAttributeAccessIssue]
