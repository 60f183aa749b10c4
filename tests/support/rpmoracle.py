"""rpm's own answer to which of two versions is older."""

import subprocess
from pathlib import Path

Pairs = set[tuple[str, str]]


def older(pairs: Pairs, folder: Path) -> Pairs:
    """Return those of `pairs` whose first version rpm calls older than the second."""
    lines = sorted(pairs)
    (folder / "pairs").write_text("".join(f"{a} {b}\n" for a, b in lines))
    loop = (
        f'for line in io.lines("{folder / "pairs"}") do '
        'local a, b = line:match("([^ ]+) ([^ ]+)"); print(rpm.vercmp(a, b) < 0 and "y" or "n") end'
    )
    answer = subprocess.run(
        ["rpm", "--eval", f"%{{lua: {loop}}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    flags = [letter for letter in answer.stdout if letter in "yn"]
    assert len(flags) == len(lines)
    return {pair for pair, flag in zip(lines, flags, strict=True) if flag == "y"}
