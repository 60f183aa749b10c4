"""P-256 as far as an attack on ECDSA needs it: points, and the private key from a nonce that came twice.

Runs in guests and beside them. Domain parameters: FIPS 186-4, D.1.2.3. Not for secrets: its time tells them.
"""

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def add(left, right):
    """Return the sum of two points; None is the neutral one."""
    if left is None or right is None:
        return right if left is None else left
    (x1, y1), (x2, y2) = left, right
    if x1 == x2 and (y1 + y2) % P == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, P) if left == right else (y2 - y1) * pow(x2 - x1, -1, P)
    x = (slope * slope - x1 - x2) % P
    return x, (slope * (x1 - x) - y1) % P


def times(factor, point):
    """Return a multiple of a point."""
    total = None
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


def from_one_nonce(first, second):
    """Return the private key that made two signatures, if both were made with one nonce; else a wrong number.

    A signature is (digest as a number, r, s): s = (digest + r * private) / nonce, twice, for two unknowns.
    """
    (digest1, r, s1), (digest2, _, s2) = first, second
    nonce = (digest1 - digest2) * pow(s1 - s2, -1, N) % N
    return (s1 * nonce - digest1) * pow(r, -1, N) % N
