"""Reports as people and programs read them.

Guarantees: whatever a guest wrote reaches a terminal or a file as visible, harmless text (`escape`);
what could not be read is said wherever a count is shown, and never shown as zero.

Takes values of `undercroft.model`, gives texts; nothing here opens, asks or decides anything.
`terminal` and `page` lay text out, `table`, `diff` and `listing` are for people, `data` (JSON, YAML),
`cyclonedx` and `sarif` for programs. Only `progress` uses rich, and only after a second: importing
rich's console costs as much as reading a disk.
"""
