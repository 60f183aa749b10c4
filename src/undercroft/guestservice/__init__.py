"""The guest service: one unprivileged process for each host, between its guests and their vaults (ADR 7).

What it guarantees: a guest reaches the vault of the machine for which the agent handed its socket over, and
nothing else, whatever it writes; nothing is answered before it is durable; a guest that floods, stalls or
lies harms itself. It takes open sockets and orders from the agent, and gives answers and events back
(`adapters.guestservice` is the client).

From the inside out: `guest` (one guest's sessions, without I/O), `keep` (what was seen, on disk), `vaults`
(log, key, TPM and engine), `group` and `groups` (group commit in a thread), `link` and `lines` (guests'
sockets), `service` (guests and vaults together), `control` and `orders` (the agent's connections and what it
may ask), `vaultorders` (what an administrator asks of the vaults), `loop` (turns), `confine` (what the
process gives up), `main`.
"""
