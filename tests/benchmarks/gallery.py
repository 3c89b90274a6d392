"""How long the gallery's first page takes: `python -m tests.benchmarks.gallery [PICTURES]`.

Servers of its own, and as many pictures as are asked for, 10,000 by default: each submitted, taken, stored
and settled as a producer and a worker do, but for the rendering. The page is asked for over a real socket.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from pixelkiln import Kiln, Settings
from pixelkiln.worker.local.instance import up
from pixelkiln.worker.queue.claims import Claims
from tests.jobs.web.page.rendering import settle, store, take
from tests.jobs.web.serving import serving

AT_ONCE = 100
LARGE = 60  # of the last ones, which the first page shows, are as large as real ones
ROUNDS = 20


def fill(kiln: Kiln, pictures: int) -> None:
    """So many finished jobs, ten to a label, every fiftieth suspicious."""
    claims = Claims(kiln.redis, "mac-1")
    with ThreadPoolExecutor(8) as threads:
        for start in range(0, pictures, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, pictures))
            kiln.submit_many(
                {
                    "prompt": f"A red fox in the snow at dusk, number {n}, with the sun low on the left",
                    "model": "demo",
                    "width": 1024 if n >= pictures - LARGE else 64,
                    "height": 1024 if n >= pictures - LARGE else 64,
                    "labels": {"tens": str(n // 10)},
                }
                for n in numbers
            )
            held = [claim for _ in numbers if (claim := take(claims)) is not None]
            suspicious = [("dark",) if n % 50 == 0 else () for n in numbers]
            made = threads.map(lambda one: store(kiln, *one), zip(held, suspicious, strict=True))
            for claim, sidecar in zip(held, made, strict=True):
                settle(claims, claim, sidecar)


def timed(client: httpx.Client, path: str) -> tuple[float, str]:
    """Milliseconds of one request, and what came."""
    began = time.perf_counter()
    answer = client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return (time.perf_counter() - began) * 1000, answer.text


def main() -> None:
    """Fill, ask, print."""
    pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.chdir(home)
        with up(home / ".kiln") as local, Kiln(Settings(home=home / ".kiln")) as kiln:
            del local
            began = time.perf_counter()
            fill(kiln, pictures)
            print(f"{pictures:,} pictures, put there in {time.perf_counter() - began:.0f} s", flush=True)
            with serving(kiln.settings, home / "none.json") as where, httpx.Client(base_url=where) as client:
                client.get("/sign-in", headers={"Accept": "text/html"})  # templates are compiled once
                first, text = timed(client, "/gallery")
                print(f"first page, first time: {first:.0f} ms, {len(text) / 1000:.0f} kB")
                for path in ("/gallery", "/gallery?label=tens=17", "/gallery?suspicious=1", "/gallery?q=no"):
                    once = timed(client, path)[0]
                    again = [timed(client, path)[0] for _ in range(ROUNDS)]
                    told = f"{statistics.median(again):.0f} (median), {max(again):.0f} at most"
                    print(f"{path}: {once:.0f} ms, then {told}")
                found = re.search(r'href="(/gallery\?cursor=[^"]+)"', text)
                assert found is not None
                print(f"second page: {timed(client, found[1])[0]:.0f} ms")
                smalls = re.findall(r'src="(/thumbnails/[^"]+)"', text)
                for word in ("made", "kept"):
                    began = time.perf_counter()
                    with ThreadPoolExecutor(6) as threads:  # as a browser asks
                        sizes = list(threads.map(lambda one: len(client.get(one).content), smalls))
                    took, each = time.perf_counter() - began, sum(sizes) / len(sizes) / 1000
                    print(f"{len(smalls)} thumbnails, {word}: {took:.1f} s, {each:.0f} kB each")
                one = re.search(r'href="(/pictures/[^"]+)"', text)
                assert one is not None
                print(f"a picture's view: {timed(client, one[1])[0]:.0f} ms")
                print(f"what happens now: {timed(client, '/')[0]:.0f} ms")


if __name__ == "__main__":
    main()
