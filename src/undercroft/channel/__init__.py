"""How a guest and the host speak beneath the guest: frames, keys, sessions and messages, without I/O.

What it guarantees: bytes of another session are never taken for this one's; what is cut off, too long or
malformed costs its sender that frame or that session and nothing else; a guest whose state was put back to an
earlier point is proven rewound, while one that rebooted is not. Nothing in here opens, waits or draws: bytes
go in, frames and events come out, and randomness and the clock are passed in.

Layers, each knowing those above it: `cobs` (where a frame ends), `cbor` (values), `frames` (what is sent
before there are keys), `keys` (secrets and sealing), `seen` (what proves a rewind), `messages` and `requests`
(what is said), `session` (who says what when). docs/CHANNEL.md is the protocol; the guest's side is
guest/undercroft_guest.py, which shares no code with this.
"""
