"""Publishers' formats in, records out: one module per format.

Guarantees: a parser is pure (an open file in, a `Feed` out), reads within named limits, and raises
`InputError` and nothing else, at once or while its records are being taken; a caller that stores the
records drops all of them when that happens. What a parser cannot express is `UNDETERMINED`, never left
out as if it were clean. Formats are recognised by content (`registry`), never by a file's name.

Everything in a feed is untrusted: ids, package names and versions are checked against their syntax,
titles are cut to one line and keep their control characters, which whoever shows them escapes.
"""
