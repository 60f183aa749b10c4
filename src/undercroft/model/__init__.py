"""Values only: frozen dataclasses that travel between the parts of Undercroft.

Nothing here does I/O or decides anything. `schema` turns the values into JSON and back, and is the
check that stands at the border of the sandbox.
"""
