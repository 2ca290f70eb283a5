"""The blob store in an S3 bucket: `sha256/ab/<hex>` for sealed bytes, `parts/` of upload sessions, `incoming/` for bytes of unknown digest.

Small blobs are one PUT, larger ones a multipart upload; both become visible whole or not at all. Where the digest is announced the upload
goes straight to its final key and is completed only when the digest is right; otherwise it is completed under `incoming/` and copied by the server.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ringi.kit.digests import CHUNK_BYTES, Digest, hex_of
from ringi.storage.blobs import (
    BlobMissing,
    DigestMismatch,
    StoredBlob,
    StoredObject,
    StoreFull,
    StoreUnavailable,
    StoreUrlInvalid,
    verified,
)
from ringi.storage.schemas import StoredKind

MIB = 1024 * 1024
# S3 takes parts of 5 MiB to 5 GiB and at most 10,000 of them: every 2,000 the parts grow, which makes 240 GB in all.
PART_BYTES, PARTS_OF_A_SIZE = 8 * MIB, 2000
_COPY = TransferConfig(multipart_threshold=128 * MIB, multipart_chunksize=128 * MIB, max_concurrency=4)
_READ_AGAIN = 3
_OPTIONS = frozenset({"endpoint", "region", "addressing", "checksums"})
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_NO_ROOM = frozenset({"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage"})
_INSUFFICIENT_STORAGE = 507


def bucket_at(url: str) -> "S3BlobStore":
    """The store of `s3://bucket/prefix?endpoint=…&region=…&addressing=path|virtual&checksums=when_required|when_supported`.

    Credentials come from the client's usual chain (environment, shared files, instance role). Raises StoreUrlInvalid.
    """
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(options.keys() - _OPTIONS):
        raise StoreUrlInvalid(f"it has the unknown options {', '.join(unknown)}; known are {', '.join(sorted(_OPTIONS))}")
    if not parts.hostname or parts.username is not None:
        raise StoreUrlInvalid("it has to be s3://bucket/prefix, with credentials in the environment and not in the URL")
    # Servers of one's own rarely have a name for each bucket.
    addressing = options.get("addressing", "path" if "endpoint" in options else "auto")
    checksums = options.get("checksums", "when_supported")
    try:
        config = Config(
            connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 3}, max_pool_connections=50,
            s3={"addressing_style": addressing}, request_checksum_calculation=checksums, response_checksum_validation=checksums,
        )  # fmt: skip
        # Who asks whether the store is there wants to know at once.
        brief = config.merge(Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 1}))
        client, prober = (
            boto3.client("s3", endpoint_url=options.get("endpoint"), region_name=options.get("region"), config=one)
            for one in (config, brief)
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreUrlInvalid(str(error).rstrip(".")) from error
    prefix = parts.path.strip("/")
    return S3BlobStore(client, parts.netloc, f"{prefix}/" if prefix else "", prober=prober)


class S3BlobStore:
    """Blobs as objects below `prefix` of one bucket; the clients are safe for several threads. `prober` gives up after seconds."""

    def __init__(self, client: Any, bucket: str, prefix: str, *, prober: Any) -> None:
        self.client, self._prober = client, prober
        self.bucket = bucket
        self.prefix = prefix

    def key(self, digest: Digest) -> str:
        """Where the bytes of `digest` are, or would be."""
        name = hex_of(digest)
        return f"{self.prefix}sha256/{name[:2]}/{name}"

    def writer(self, expected: Digest | None = None) -> "S3BlobWriter":
        """Start a blob: at its final key where the digest is known, else in `incoming/`."""
        return S3BlobWriter(self, self.key(expected) if expected else f"{self.prefix}incoming/{uuid4().hex}", expected=expected)

    def part_writer(self, part: UUID) -> "S3BlobWriter":
        """Start a part at its own key."""
        return S3BlobWriter(self, self._part_key(part), stays=True)

    def _part_key(self, part: UUID) -> str:
        return f"{self.prefix}parts/{part}"

    def look(self, digest: Digest) -> StoredObject:
        """Size and time; raises BlobMissing."""
        with explained(digest):
            found = self.client.head_object(Bucket=self.bucket, Key=self.key(digest))
        return StoredObject(StoredKind.BLOB, digest, found["ContentLength"], found["LastModified"])

    def open(self, digest: Digest, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Stream bytes [start, end); only a full read can be verified, a range cannot."""
        size = self.look(digest).size
        stop = size if end is None else min(end, size)
        pieces = self._read(self.key(digest), start, stop, digest)
        return verified(pieces, digest) if (start, stop) == (0, size) else pieces

    def open_part(self, part: UUID) -> Iterator[bytes]:
        """Stream a part; raises BlobMissing."""
        with explained(str(part)):
            size = self.client.head_object(Bucket=self.bucket, Key=self._part_key(part))["ContentLength"]
        yield from self._read(self._part_key(part), 0, size, str(part))

    def _read(self, key: str, start: int, stop: int, name: str) -> Iterator[bytes]:
        """A connection that is cut in the middle of an object is opened again where it ended, a few times without progress at most."""
        fruitless = 0
        while start < stop:
            cut: Exception | None = None
            with explained(name):
                body = self.client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={start}-{stop - 1}")["Body"]
            with closing(body):
                while True:
                    try:
                        piece = body.read(CHUNK_BYTES)
                    except (BotoCoreError, OSError) as error:
                        cut = error
                        break
                    if not piece:
                        break
                    start, fruitless = start + len(piece), 0
                    yield piece
            fruitless += 1
            if start < stop and fruitless > _READ_AGAIN:
                raise StoreUnavailable(f"reading {name} was cut off {fruitless} times") from cut

    def link(self, digest: Digest, target: Path) -> None:
        """A verified copy at `target`."""
        pieces = self.open(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("wb") as out:
                for piece in pieces:
                    out.write(piece)
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def objects(self) -> Iterator[StoredObject]:
        """Every object below the prefix that is ours, and the multipart uploads that are still open."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        for found in self._listed(pages, "Contents"):
            folder, _, rest = found["Key"].removeprefix(self.prefix).partition("/")
            kind = {"sha256": StoredKind.BLOB, "parts": StoredKind.PART, "incoming": StoredKind.INCOMING}.get(folder)
            if kind is not None:
                name = f"sha256:{rest.rpartition('/')[2]}" if kind is StoredKind.BLOB else rest
                yield StoredObject(kind, name, found["Size"], found["LastModified"])
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self.prefix)
        for found in self._listed(pages, "Uploads"):
            yield StoredObject(StoredKind.MULTIPART, f"{found['UploadId']} {found['Key']}", 0, found["Initiated"])

    def _listed(self, pages: Any, entry: str) -> Iterator[dict[str, Any]]:
        waiting = iter(pages)
        while True:
            with explained():
                page = next(waiting, None)
            if page is None:
                return
            yield from page.get(entry, ())

    def remove(self, kind: StoredKind, name: str) -> None:
        """Remove an object, or end an open multipart upload; harmless when it is gone."""
        with explained():
            if kind is StoredKind.MULTIPART:
                upload, _, key = name.partition(" ")
                with suppress(self.client.exceptions.NoSuchUpload):
                    self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
                return
            key = self.key(name) if kind is StoredKind.BLOB else f"{self.prefix}{'parts' if kind is StoredKind.PART else 'incoming'}/{name}"
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def now(self) -> datetime:
        """The server's time, by the Date of its answer."""
        with explained():
            answer = self.client.head_bucket(Bucket=self.bucket)
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    def check(self) -> None:
        """Raises StoreUnavailable when the bucket does not answer in seconds, is not there, or refuses our credentials."""
        with explained():
            self._prober.head_bucket(Bucket=self.bucket)


class S3BlobWriter:
    """Bytes on their way in, hashed as they come; memory holds one part. `stays`: sealed at `key`, else at the key of the digest."""

    def __init__(self, store: S3BlobStore, key: str, *, expected: Digest | None = None, stays: bool = False) -> None:
        self._store, self._key, self._expected, self._stays = store, key, expected, stays
        self._object = {"Bucket": store.bucket, "Key": key}
        self._buffer = bytearray()
        self._hash = hashlib.sha256()
        self._size = 0
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []
        self._leaves_aside = False

    def write(self, piece: bytes) -> None:
        """Append `piece`; every full part goes to the server at once."""
        self._hash.update(piece)
        self._size += len(piece)
        self._buffer += piece
        while len(self._buffer) > (size := PART_BYTES * (1 + len(self._parts) // PARTS_OF_A_SIZE)):
            self._send(bytes(memoryview(self._buffer)[:size]))
            del self._buffer[:size]

    def _send(self, body: bytes) -> None:
        client = self._store.client
        with explained():
            if self._upload is None:
                self._upload = client.create_multipart_upload(**self._object)["UploadId"]
            number = len(self._parts) + 1
            answer = client.upload_part(**self._object, UploadId=self._upload, PartNumber=number, Body=body)
        # A server that computed a checksum of the part wants to hear it again at the end.
        checksums = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"], **checksums})

    def seal(self) -> StoredBlob:
        """Complete the upload, and copy it to the key of its digest; also over the same bytes, because a copy renews their age."""
        digest = "sha256:" + self._hash.hexdigest()
        if self._expected not in {None, digest}:
            raise DigestMismatch(expected=self._expected or "", found=digest)
        final = self._key if self._stays else self._store.key(digest)
        client = self._store.client
        if self._upload is None:
            with explained():
                client.put_object(Bucket=self._store.bucket, Key=final, Body=bytes(self._buffer))
        else:
            self._send(bytes(self._buffer))
            with explained():
                client.complete_multipart_upload(**self._object, UploadId=self._upload, MultipartUpload={"Parts": self._parts})
            self._upload = None
            if final != self._key:
                self._leaves_aside = True
                with explained():
                    client.copy(self._object, self._store.bucket, final, Config=_COPY)
        self._buffer.clear()
        return StoredBlob(digest=digest, size=self._size)

    def abort(self) -> None:
        """End the upload and remove what lies in `incoming/`; where the server is away, housekeeping does it after the grace period."""
        client = self._store.client
        self._buffer.clear()
        with suppress(BotoCoreError, ClientError):
            if self._upload is not None:
                client.abort_multipart_upload(**self._object, UploadId=self._upload)
                self._upload = None
            if self._leaves_aside:
                client.delete_object(**self._object)
                self._leaves_aside = False


@contextmanager
def explained(name: str | None = None) -> Iterator[None]:
    """The client's errors as ours; a missing object is BlobMissing where `name` says what was asked for."""
    try:
        yield
    except ClientError as error:
        code, status = error.response["Error"].get("Code", ""), error.response["ResponseMetadata"].get("HTTPStatusCode")
        if name is not None and code in _MISSING:
            raise BlobMissing(name) from None
        if status == _INSUFFICIENT_STORAGE or code in _NO_ROOM:
            raise StoreFull from error
        raise StoreUnavailable(f"the server answers {code} to {error.operation_name}") from error
    except (BotoCoreError, boto3.exceptions.Boto3Error, OSError) as error:
        raise StoreUnavailable(str(error).rstrip(".") or type(error).__name__) from error
