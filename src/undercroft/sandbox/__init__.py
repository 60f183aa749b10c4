"""Where untrusted bytes are read: a confined child process per job.

Guarantees: a job that reads a hostile image can reach its own descriptors for reading, its answer
for writing, and nothing else: no network, no files, no other process, no way to start one. It ends within
its limits of memory, processor time and time, and takes no other job with it. Answers are bounded JSON
or bounded pieces of bytes, never pickles. Where the sandbox cannot be had, starting it raises
`DeniedError` with the cure; nothing falls back to reading without one.

`launcher.start()` gives a confined `ports.reader.Reader`, `inprocess.InProcessReader` one without walls.
Two walls stand one behind the other: bubblewrap around all readers (`bubblewrap`, `server`), and a
system call filter with kernel limits around each child (`child`, `seccomp`).
"""
