"""What is refused of an upload in parts."""

from ringi.kit.errors import Conflict, InvalidInput, RingiError
from ringi.uploads.models import UploadSession


class UploadOffsetMismatch(Conflict):
    """The part does not begin where the session ends: another client, or an answer that was lost, moved it."""

    code = "upload_offset_mismatch"

    def __init__(self, found: UploadSession, offset: int) -> None:
        super().__init__(
            f"The part begins at byte {offset}, but {found.received} bytes are kept.",
            next_step="Go on from details.offset.",
            details={"offset": found.received},
        )


class UploadEnded(Conflict):
    """The session is over."""

    code = "upload_ended"

    def __init__(self, found: UploadSession) -> None:
        super().__init__(
            f"Upload {found.id} is '{found.state}' and takes no more bytes.", next_step="Open a new one: POST /api/v1/uploads/sessions."
        )


class UploadIncomplete(Conflict):
    """Bytes are missing."""

    code = "upload_incomplete"

    def __init__(self, found: UploadSession) -> None:
        super().__init__(
            f"{found.received} of {found.size} bytes have arrived.",
            next_step="Go on from details.offset.",
            details={"offset": found.received},
        )


class UploadLongerThanAnnounced(InvalidInput):
    """More bytes came than the session was opened for."""

    code = "upload_longer_than_announced"

    def __init__(self, size: int) -> None:
        super().__init__(
            f"The upload was announced with {size} bytes; more came.", next_step="Open a new session with the file's true size."
        )


class TooManyUploads(RingiError):
    """A bound on what one user leaves open, and on the pieces of one upload."""

    code, status = "too_many_uploads", 409

    def __init__(self, what: str) -> None:
        super().__init__(f"There are too many {what}.", next_step="Finish or delete open uploads; send parts of 1 MiB or more.")


class UploadFinishing(Conflict):
    """The parts are being joined already, or this process joins as many uploads as it may."""

    code, retryable = "upload_finishing", True
    retry_after_s = 5

    def __init__(self) -> None:
        super().__init__(
            "This upload is being joined at this moment, or so many others are that it has to wait.",
            next_step="Ask again in a moment: the answer is that of the upload once it is stored.",
        )
