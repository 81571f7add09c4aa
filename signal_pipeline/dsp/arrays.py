"""Short names for the array types that the kernels pass around. Not here: arrays."""

import numpy as np
import numpy.typing as npt

Float4 = np.float32
F4 = npt.NDArray[np.float32]
F8 = npt.NDArray[np.float64]
I1 = npt.NDArray[np.int8]
I4 = npt.NDArray[np.int32]
I8 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
