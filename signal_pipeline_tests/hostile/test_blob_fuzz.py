"""Generated blobs: the samples that their row claims, or corrupt."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from signal_pipeline.errors import CorruptBlob
from signal_pipeline.ingest.codec import decode
from signal_pipeline_tests.hostile.blobs import BlobCase, blob_cases
from signal_pipeline_tests.hostile.fuzzing import TIMEOUT_SECONDS, counted, fuzz


def outcome(case: BlobCase) -> NDArray[np.float32] | CorruptBlob:
    try:
        return decode(case.blob, samples_count=case.samples_count, crc32=case.crc32)
    except CorruptBlob as error:
        return error


def check(case: BlobCase) -> str:
    """What came of one blob, after all that has to hold for it."""
    samples = outcome(case)
    if isinstance(samples, CorruptBlob):
        assert case.original is None, f"a sound blob was refused: {samples}"
        assert str(samples).isprintable()
        return "corrupt"
    assert not case.damaged_since_checksum
    assert samples.dtype == np.float32
    assert samples.shape == (case.samples_count,)
    assert samples.flags.writeable
    if case.original is not None:
        assert samples.tobytes() == case.original.tobytes()
        return "read"
    return "read as other samples"  # damage that no form can notice by itself; the row's checksum does


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_a_generated_blob_gives_the_claimed_samples_or_is_corrupt(
    request: pytest.FixtureRequest,
) -> None:
    tally: Counter[str] = Counter()

    def hold(case: BlobCase) -> None:
        tally[check(case)] += 1

    fuzz(1 / 3, hold, case=blob_cases())
    request.node.user_properties.append(("said", f"generated blobs, {counted(tally)}"))
