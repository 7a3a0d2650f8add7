"""Whatever stands in a suite file, it is a suite or one line that says what is wrong."""

import pytest

from scopeworks.pipelines.plan.quantities import quantities
from scopeworks.pipelines.suite.outputs import Outputs
from scopeworks.pipelines.suite.settings import SuiteFile
from scopeworks.tests.pipelines.small_suite import write_suite

KEYS = {
    "": "name model out tokens stores checkpoints read device seed dask together storage_options",
    "text": "sources store context tokens held_out packing",
    "harvest": "site rows codec seed bucket_rows",
    "train": "steps batch lr seed",
    "sae": "site target_site width sparsity target_l0 seed name tokens together steps",
    "evaluate": "n_sequences",
    "release": "formats license text limits repo",
    "latents": "of rows seed",
}
VALUES = (
    "5",
    "-1",
    '"x"',
    "[]",
    "[[]]",
    "{}",
    "true",
    "1e400",
    "nan",
    '[1, "a"]',
    "1979-05-27",
    '""',
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_suite(tmp_path_factory.mktemp("any"))


@pytest.mark.parametrize("table", KEYS)
def test_any_value_is_taken_or_refused_in_one_line(path, table):
    refused = 0
    names = [f"{table}.{key}".lstrip(".") for key in KEYS[table].split()]
    for name in [*names, *([table] if table else [])]:
        for value in VALUES:
            try:
                outputs = Outputs(SuiteFile(path, [f"{name}={value}"]))
                quantities(outputs.file, 10**6)
            except (ValueError, OSError) as error:
                refused += 1
                assert "\n" not in str(error) and str(error), (name, value)
    assert refused > len(names)


def test_a_suite_that_is_not_there_names_the_presets(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"suite demmo does not exist; did you mean 'demo'"):
        SuiteFile(tmp_path.__class__("demmo"))
