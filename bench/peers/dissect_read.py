"""Peer: dissect.target asked for files: image and passphrase as arguments, paths on stdin."""

import hashlib
import json
import sys

from dissect.target import Target
from dissect.target.exceptions import FileNotFoundError as NoSuchFileError
from dissect.target.helpers import keychain

image, passphrase = sys.argv[1:3]
keychain.register_wildcard_value(passphrase)
target = Target.open(image)
target.apply()
roots = [target.fs, *target.filesystems]
root = next((root for root in roots if root.path("/usr/lib/os-release").exists()), target.fs)
answer = {}
for path in sys.stdin.read().split("\0"):
    try:
        answer[path] = hashlib.sha256(root.path(f"/{path}").read_bytes()).hexdigest()
    except NoSuchFileError:
        answer[path] = "missing"
    except Exception as error:  # noqa: BLE001 - whatever it says
        answer[path] = f"!{type(error).__name__}: {error}"
print(json.dumps(answer))
