"""What is installed in a machine, from its files: nothing runs in it and nothing is asked of it.

Guarantees: an inventory is what the guest's own records say, with the parts that could not be read
named in its coverage. A package database is the guest's word: it tells what was installed, not that
nothing else runs.

Takes a `disks.machine.Machine`, gives a `model.inventory.Inventory` (`collect.collect`). One module per
source: `osrelease`, one for each package manager (`databases` lists them; those without are in
`otherpackages`), `languages` for what lies beside them, `kernels`, `lastrun` with `journal`, `unowned`.
`sqlite` reads what several of them use.
"""
