"""Ceph's S3 gateway on one monitor and one store in memory: a second S3, written by others.

For Debian's packages radosgw, ceph-mon and ceph-osd, and for root, as which these want to be started.
"""

from __future__ import annotations

import secrets
import subprocess
import time
import uuid
from pathlib import Path

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.local.ports import LOOPBACK, free_ports
from pixelkiln.worker.local.seaweed import BUCKET

_CONFIG = """\
[global]
fsid = {fsid}
monmap = {folder}/monmap
public addr = {host}
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
paxos propose interval = 0.1
osd objectstore = memstore
memstore device bytes = 1073741824
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw frontends = beast endpoint={host}:{http}
rgw dns name = {host}
"""
# Who asks a monitor for its options first forgets what cluster that is: its first command is then refused, as
# another's, where the answer to it comes before the next map does. A store ends at that, and its pools wait.
_FIRST = ("-c", "ceph.conf", "--no-mon-config")


class Radosgw:
    """As a context manager: inside it the gateway answers and has the bucket, after it nothing is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._mon, self._http = free_ports(2)
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_hex(20)
        self._cluster: list[subprocess.Popen[bytes]] = []
        self._gateway: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """The address of its S3 interface."""
        return f"http://{LOOPBACK}:{self._http}"

    @property
    def pid(self) -> int:
        """Of the gateway."""
        assert self._gateway is not None
        return self._gateway.pid

    def launch(self) -> None:
        """Start the gateway."""
        self._gateway = self._start("radosgw", "-n", "client.admin")

    def wait(self, patience: float = 60.0) -> None:
        """Return when it answers, the bucket made."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )
        deadline = time.monotonic() + patience
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > deadline:
                    raise NotReadyError(f"radosgw does not answer: {error}") from None
                time.sleep(0.1)
            else:
                client.close()
                return

    def stop(self) -> None:
        """End the gateway; what it stored stays."""
        if self._gateway is not None:
            self._gateway.kill()
            self._gateway.wait()

    def __enter__(self) -> Radosgw:
        try:
            self._found()
            self.launch()
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        for process in reversed(self._cluster):
            process.kill()
            process.wait()

    def _found(self) -> None:
        """Make the cluster: one monitor, one store, one user."""
        fsid = str(uuid.uuid4())
        for name in ("mon", "osd", "rgw"):
            (self._folder / name).mkdir(parents=True)
        config = _CONFIG.format(fsid=fsid, host=LOOPBACK, http=self._http, folder=self._folder)
        (self._folder / "ceph.conf").write_text(config)
        address = f"[v1:{LOOPBACK}:{self._mon}]"
        self._run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, "monmap")
        self._run("ceph-mon", "--mkfs", "-i", "a")
        self._cluster.append(self._start("ceph-mon", "-i", "a"))
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", str(uuid.uuid4()))
        self._cluster.append(self._start("ceph-osd", "-i", "0"))
        user = ("--uid", "kiln", "--display-name", "kiln")
        keys = ("--access-key", self.access_key, "--secret", self.secret_key)
        self._run("radosgw-admin", "user", "create", *user, *keys)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [program, *_FIRST, *arguments],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise NotReadyError(f"{program}: {done.stdout.decode(errors='replace')[-300:]}")

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{program}.out").open("ab") as out:
            return subprocess.Popen(
                [program, *_FIRST, "-f", *arguments], cwd=self._folder, stdout=out, stderr=out
            )


def bucket(store: Radosgw) -> Bucket:
    """Its bucket; the credentials are the environment's."""
    return Bucket.open(Settings(redis_url="redis://unused", s3_endpoint=store.endpoint))  # type: ignore[arg-type]
