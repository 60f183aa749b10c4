"""Fresh randomness after every resume: what a seed is made of, so that no two executions get the same.

Values in, values out: random bytes, nonces and numbers are passed in. docs/ENTROPY.md has what a resume
repeats and what ends it.
"""
