"""What an S3 bucket keeps beside its objects: old versions of them, and parts of uploads that were never completed.

Other stores are left alone: their own tools or life-cycle rules must do it.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from w2vb_ray import storage
from w2vb_ray.errors import SinkError

_TOGETHER = 1000  # what S3 deletes in one request
_Request = Callable[..., Mapping[str, Any]]


class BucketHistory:
    """Old versions and open uploads under one URI of S3.

    Args:
        uri: `s3://bucket/prefix`.
        options: fsspec options of the store.
    """

    def __init__(self, uri: str, options: Mapping[str, Any]) -> None:
        filesystem: Any = storage.filesystem(uri, options)
        self._uri = uri
        self._call: _Request = filesystem.call_s3
        bucket, _, prefix = storage.fs_path(uri, filesystem).partition("/")
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""

    @staticmethod
    def applies_to(uri: str) -> bool:
        """Whether the store of a URI is one that is understood here."""
        return storage.is_s3(uri)

    def uploads(self, started_before: datetime) -> list[dict[str, str]]:
        """Uploads in parts that began before a moment and are still open."""
        pages = self._pages("list_multipart_uploads", KeyMarker="NextKeyMarker", UploadIdMarker="NextUploadIdMarker")
        return [
            {"Key": upload["Key"], "UploadId": upload["UploadId"]}
            for page in pages
            for upload in page.get("Uploads") or []
            if upload["Initiated"] < started_before
        ]

    def abort(self, upload: Mapping[str, str]) -> None:
        """Delete the parts of an upload."""
        self._call("abort_multipart_upload", Bucket=self._bucket, **upload)

    def old_versions(self) -> list[dict[str, str]]:
        """Versions that are not the newest of their object, and markers of deleted ones; those of logs left out.

        The log of a Delta table names files and numbers of rows, none of the rows' own values.

        Raises:
            SinkError: the store does not let us look.
        """
        markers = {"KeyMarker": "NextKeyMarker", "VersionIdMarker": "NextVersionIdMarker"}
        try:
            pages = list(self._pages("list_object_versions", **markers))
        except PermissionError as err:
            raise SinkError(
                f"the versions of objects under sink.uri ({self._uri}) cannot be listed ({err}); give this job the "
                "right to list and to delete object versions there"
            ) from err
        return [
            {"Key": entry["Key"], "VersionId": entry["VersionId"]}
            for page in pages
            for entry in [
                *(version for version in page.get("Versions") or [] if not version["IsLatest"]),
                *(page.get("DeleteMarkers") or []),
            ]
            if "/_delta_log/" not in entry["Key"]
        ]

    def delete_old_versions(self, between: Callable[[], None]) -> int:
        """Delete them, and look whether they are gone; returns how many there were.

        Raises:
            SinkError: some are still there.
        """
        found = self.old_versions()
        for start in range(0, len(found), _TOGETHER):
            between()
            some = {"Objects": found[start : start + _TOGETHER], "Quiet": True}
            self._call("delete_objects", Bucket=self._bucket, Delete=some)
        if found and (left := self.old_versions()):
            raise SinkError(
                f"{len(left):,} old versions of objects under sink.uri ({self._uri}) could not be deleted, one of "
                f"{left[0]['Key']} among them; lift object locks, give this job the right to delete object versions, "
                "then run it again"
            )
        return len(found)

    def _pages(self, request: str, **markers: str) -> Iterator[Mapping[str, Any]]:
        start: dict[str, str] = {}
        while True:
            page = self._call(request, Bucket=self._bucket, Prefix=self._prefix, **start)
            yield page
            if not page.get("IsTruncated"):
                return
            start = {marker: page[following] for marker, following in markers.items() if page.get(following)}
