"""Operations, answers and limits of a vault: plain integers, which the proof and what runs share.

An answer of 0 and above was granted; one below 0 is a refusal, and `refusals.py` has its reason in words.
"""

SPAN = 1099511627776  # 2 ** 40: the values of one name in one epoch
EPOCH_LIMIT = 8388608  # 2 ** 23: each value is below 2 ** 63
RESERVE_LIMIT = 1048576  # the values that one request may reserve
WINDOW = 128  # the answers that are kept: twice the requests that a guest may have in flight

INCREMENT = 1  # first: how many values; answer: the first of them
SPEND = 2
APPEND = 3  # first, second: height and head that the caller expects, third: the entry; answer: the height
STORE = 4  # first: the version that the caller expects, second: the content; answer: the version
REVOKE = 5

DONE = 0
FENCED = -1  # another execution holds the fence, or none
FORGOTTEN = -2  # the number is older than the answers that are kept, or was left out
CONFLICT = -3  # the number is that of another request
UNKNOWN = -4  # there is no such operation
MALFORMED = -5  # so many values are never reserved
EXHAUSTED = -6  # the epoch has no such value left
SPENT = -7  # the value was spent before
MOVED = -8  # ledger or blob is not where the caller expects it
LOST = -9  # a later execution took the fence, or this one gave it up
HELD = -10  # whoever holds the fence lives, and this is its fork
PAST = -11  # epochs only grow, below their limit
UNBEGUN = -12  # no epoch has begun
REVOKED = -13  # the name was revoked
