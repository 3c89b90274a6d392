"""For the tests of programs that submit jobs: a Kiln without Redis, bucket, worker or waiting.

from pixelkiln.testing import FakeKiln

def test_my_app(tmp_path):
    with FakeKiln() as kiln:
        my_app.make_pictures(kiln, tmp_path)  # submits, waits, fetches, as with the real one
"""

from __future__ import annotations

from pixelkiln.jobs.testing.fake import FakeKiln, StuckError

__all__ = ["FakeKiln", "StuckError"]
