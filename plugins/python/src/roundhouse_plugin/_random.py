"""Random numbers that are the same in scripts, Go plugins and here: Philox4x32 with ten
rounds (Salmon et al. 2011), keyed by seed, choice, position, attempt and draw."""

from __future__ import annotations

_M32, _M64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """The ten rounds."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for turn in range(10):
        if turn:
            k0, k1 = (k0 + 0x9E3779B9) & _M32, (k1 + 0xBB67AE85) & _M32
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & _M32, (a >> 32) ^ c3 ^ k1, a & _M32
    return c0, c1, c2, c3


def random(seed: int, choice: int, position: int, attempt: int, draw: int) -> float:
    """The number of a key in [0, 1), of 53 bits."""
    seed = (seed ^ (1 << 63)) & _M64  # apart from the engine's own numbers
    w = philox((choice & _M32, position & _M32, attempt & _M32, draw & _M32), (seed & _M32, seed >> 32))
    return ((w[0] << 21) ^ (w[1] >> 11)) / (1 << 53)
