"""Thin code that touches the outside world: libvirt, gpgv, HTTP, apt's configuration, files of a spool."""
