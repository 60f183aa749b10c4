"""What is known of vulnerabilities, and which of it applies to an inventory.

Guarantees: matching follows each distribution's own rules (Debian and Ubuntu: source package and source
version, dpkg's order, the release's own status); a severity that no source gives is `unknown`; a feed
past its maximum age, an uncovered release or an undated record under `--as-of` never comes out as
"clean" but as a problem of the answer.

Takes records that the store holds (`records`), an inventory and a day; gives an `Assessment`. `feeds`
has one parser per publisher's format, all of them bytes in, records out.
"""
