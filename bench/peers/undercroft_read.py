"""Undercroft asked for files: image, passphrase and the image's further files, paths on stdin."""

import hashlib
import json
import sys

import undercroft
from undercroft.errors import UndercroftError

image, passphrase, *parts = sys.argv[1:]
paths = sys.stdin.read().split("\0")
keys = {"*": passphrase.encode()}
answer = {}
with undercroft.open(image, data_files=parts, keys=keys if "luks" in image else {}) as machine:
    state = machine.state("current")
    for path in paths:
        try:
            digest = hashlib.sha256()
            for chunk in machine.content(state, f"/{path}"):
                digest.update(chunk)
            answer[path] = digest.hexdigest()
        except UndercroftError as error:
            answer[path] = f"!{error}"
print(json.dumps(answer))
