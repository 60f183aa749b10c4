"""The agent: one process per host that watches libvirt, answers its hooks, judges and keeps the record.

`undercroft up` runs it. It decides nothing itself: admission, history and judgements are use cases.
"""
