"""`kiln serve`: an HTTP API before the queue, and a page on it. It holds no state: any number may run.

Imported only where it is run, since its packages come with `pixelkiln[serve]`.
"""
