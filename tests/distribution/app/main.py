"""An app with packages `jobs` and `worker` of its own: submits one picture, waits for it, fetches it."""

import json
import sys

import jobs
import pixelkiln
import pixelkiln.jobs.client
import pixelkiln.worker.commands.app
import worker
from pixelkiln import Kiln

with Kiln() as kiln:
    job = kiln.submit(prompt="a fox", model="demo", width=64, height=64)
    (status,) = kiln.wait([job.id])
    path = kiln.fetch(job.id, sys.argv[1])
told = {
    "state": status.state,
    "error": status.error,
    "bytes": path.stat().st_size,
    "own": [jobs.NAME, worker.NAME],
    "from": pixelkiln.__file__,
    "heavy": sorted({"mlx", "numpy", "torch", "psutil"} & {name.partition(".")[0] for name in sys.modules}),
}
print(json.dumps(told))
