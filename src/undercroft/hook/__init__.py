"""libvirt's hook: `qemu_hook.py` is installed as a file of its own and imports nothing of this package."""
