"""Many image files in one call: found in folders, grouped into chains, read with as little as proves them.

    found = walk(["/var/lib/libvirt/images"])
    for image in FolderScan(reader, cache, assess, context).scan(found):
        print(image.path, image.report.complete)

Guarantees, one after the other:

- `walking`: only what lies in the folders that were named, each file once; what is left out is told.
- `chains`: a header's name picks among these files and becomes no path.
- `survey`: a child that looks at many files gives hints alone. What an answer rests on, each image's own
  child says again, so that a child that an image took over speaks for that image and no other.
- `reading`: an inventory is taken for an image's only where every byte that it rests on was read again
  through this image's chain and is the same, or where no file of the chain was written since.
- `keyed`: a key goes to the images that show a volume that it is meant for; what it opens is kept nowhere.
- `scanning`: one image that cannot be read stops no other, and what was read is kept at once.
"""
