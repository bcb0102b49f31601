"""Why something stands where it stands, as a code: what programs compare. The sentence beside it is for people.

A refusal by the gate has its rule as code, a rejected transfer its DIMSE status, a removal a person's own words.
"""

from __future__ import annotations

from enum import StrEnum


class ReasonCode(StrEnum):
    """The codes; they are stored and shown, so none is renamed."""

    NONE = ""  # nothing needs a reason
    OTHER = "other"  # of a row older than the codes, whose sentence is none that the program has written since

    # of an analysis
    NO_MODEL_FOR_IMAGE = "no_model_for_image"  # no active model reads this age and view
    ALREADY_READ = "already_read"  # the model that reads the image now has a result, or an analysis, of its own
    OTHER_VERSION = "other_version"  # failed by a former version because another one had queued it
    PIXELS_UNREADABLE = "pixels_unreadable"  # the image's own fault; never tried again
    DECODER_MISSING = "decoder_missing"  # this installation lacks the decoder of its transfer syntax
    MODEL_UNAVAILABLE = "model_unavailable"  # bundle gone, changed, or not runnable on this machine
    STORE_UNAVAILABLE = "store_unavailable"  # the store does not answer now
    STORED_FILE_LOST = "stored_file_lost"  # the store answers; the file is gone, or its bytes have changed
    DATABASE_UNAVAILABLE = "database_unavailable"
    UNEXPECTED_ERROR = "unexpected_error"  # a defect; the sentence names the exception's class
    WORKER_DIED = "worker_died"  # its process died or was stopped; the sentence says how
    WORKER_LOST = "worker_lost"  # its process is gone, and nobody has reported how

    # of a delivery or of a request for storage commitment, beside those of store and defects
    PEER_UNREACHABLE = "peer_unreachable"  # no association; no object's fault
    PEER_STATUS = "peer_status"  # the status that the peer answered with, which the sentence names
    SUPERSEDED = "superseded"  # the object has a newer revision
    DESTINATION_REMOVED = "destination_removed"  # no longer configured, and for days nothing has been sent to it
    NOT_SENT = "not_sent"  # not offered, not answered, or not accepted in this transfer syntax

    # of an image or a study as interfaces show it; derived, never stored
    NO_MODEL_ACTIVE = "no_model_active"
    ABOUT_TO_BE_QUEUED = "about_to_be_queued"
    PARTLY_READ = "partly_read"  # some of the study's images have no result
    REFUSED_BY_GATE = "refused_by_gate"
    MISFILED = "misfiled"  # its only images came under the UIDs of another study's
    NO_IMAGE = "no_image"  # no image of the study is here any more
