"""Reading beside a writer that makes the store longer.

Owns the answer to one question: are the shards just read still those of the commit that the reader
knows? A store that grows writes its short last bucket anew, at the same keys and in another order,
and the bytes of that are as sound as those before.
"""

from collections.abc import Iterable

import numpy as np

from ..format.arrays import DamagedStoreError
from ..format.commits import Commit, is_unchanged
from ..format.spec import StoreSpec
from ..place.location import Forwarding, Location


class Guarded(Forwarding):
    """A location whose reads from a short bucket's shards are refused once its commit is no more
    the one that was read.

    The writer withdraws the commit before it touches a shard, so a commit that is there after a
    read says that the read was of the old bytes. Full buckets never change and cost nothing.
    """

    def __init__(self, location: Location, spec: StoreSpec, commits: Iterable[Commit]):
        super().__init__(location)
        self._spec = spec
        self._short = {
            commit.bucket: commit
            for commit in commits
            if commit.rows + commit.dropped < spec.bucket_rows
        }

    def read_into(self, key: str, start: int, out: np.ndarray) -> int:
        """See `Location.read_into`.

        Raises:
            DamagedStoreError: the bucket is being, or has been, written anew.
        """
        try:
            return super().read_into(key, start, out)
        finally:
            self._check(key)

    def _check(self, key: str) -> None:
        shard = int(key.partition("/c/")[2].partition("/")[0])
        bucket = shard * self._spec.shard_rows // self._spec.bucket_rows
        commit = self._short.get(bucket)
        if commit is not None and not is_unchanged(self._location, commit):
            raise DamagedStoreError(
                f"bucket {bucket} of {self.url} is no more what it was when the store was opened:"
                " the store grows, and its last bucket is written anew; open the store again"
            )
