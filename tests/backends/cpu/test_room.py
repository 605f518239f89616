"""Arrays whose addresses go to generated code."""

import numpy as np

from rlxflow.backends.cpu.memory import ALIGNMENT, Room, address


def test_arrays_of_a_room_are_zero_aligned_and_apart() -> None:
    room, rng = Room(), np.random.default_rng(0)
    arrays = []
    for number in range(200):
        shape = tuple(int(n) for n in rng.integers(0, 40, 3))
        array = room.aligned(shape, (np.float32, np.uint8, np.int64)[number % 3])
        assert array.shape == shape
        assert not array.any()
        assert array.size == 0 or address(array) % ALIGNMENT == 0
        array[...] = number % 100 + 1
        arrays.append(array)
    for number, array in enumerate(arrays):
        assert (array == number % 100 + 1).all()
    assert all(a.flags.writeable and a.flags.c_contiguous for a in arrays)
