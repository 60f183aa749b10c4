"""Verdicts: a policy, and what it says of a machine in one state. Pure: facts, policy and time in; no I/O.

Guarantees: the same facts, policy and time give the same judgement; every rule answers and is kept; what is
not known never comes out as steady; more findings, an older scan, less coverage or a later time never make
a judgement milder; an exception changes the answer that it names and no other.

    policy = load_policy([("policy.yaml", text)], today)
    judgement = Judge(policy, now).judge(facts, since=what_was_said_before)
"""
