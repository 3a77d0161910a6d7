"""What the errors of a disk or an object store mean: gone, busy, or wrong, and what to do then.

Knows codes and numbers; reads and writes nothing, and hides no secrets: that is the Store's part.
"""

from __future__ import annotations

import errno
import os

TMP = ".batchgen/tmp"  # for files that are being written; on local disks only, and never listed
TRANSIENT_CLASSES = {
    "ConnectionError",  # Python's, and botocore's EndpointConnectionError, ConnectTimeoutError, ...
    "TimeoutError",
    "HTTPClientError",  # botocore: closed connections, read timeouts
    "IncompleteReadError",
    "ResponseParserError",
    "ClientConnectionError",  # aiohttp
    "ClientPayloadError",
}
TRANSIENT_ERRNOS = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO}
TRANSIENT_CODES = {"SlowDown", "RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}
TRANSIENT_STATUSES = {408, 409, 425, 429, 500, 502, 503, 504}

NO_SPACE = "the disk is full. Free some space and run the same command again."
DENIED = "permission denied for user {user}. Give this user the right to do it, or choose another folder."
EXPLAINED_ERRNOS = {
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
    errno.EROFS: "the file system is read-only.",
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EFBIG: "the file is larger than this file system or `ulimit -f` allows.",
    errno.EXDEV: f"the folder is on another disk than {TMP} beside it. Put both on one disk.",
    errno.ENOTSUP: "this file system has no hard links, so create-if-absent cannot be atomic. Choose another disk.",
    errno.ENOTDIR: "a part of the path is a file, not a folder.",
    errno.EISDIR: "it is a folder.",
    errno.ESPIPE: "it is a pipe or a device. Write what comes out of it to a file, and name that.",
}
EXPLAINED_CODES = {
    "NoSuchBucket": "the bucket does not exist. Create it, or correct the URL.",
    "InvalidAccessKeyId": "the store does not know {key}. Check AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.",
    "SignatureDoesNotMatch": "the secret does not belong to {key}. Check AWS_SECRET_ACCESS_KEY.",
    "ExpiredToken": "the credentials ({key}) have expired. Renew them and run the same command again.",
    "RequestTimeTooSkewed": "the clock of this machine is wrong. Set it (NTP) and run the same command again.",
    "QuotaExceeded": NO_SPACE,
    "400": "bad request, without a reason. Often the credentials ({key}) have expired or belong to another region.",
}
PERMISSIONS = "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket"


def answer_of(error: BaseException) -> tuple[int, str]:
    """HTTP status and error code of what the store answered; (0, '') if it did not."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if isinstance(response, dict):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return int(status), str(response.get("Error", {}).get("Code", ""))
    number = str(getattr(error, "status", "") or getattr(error, "code", ""))  # aiohttp, gcsfs
    return int(number) if number.isdigit() else 0, ""


def is_missing(error: BaseException) -> bool:
    """No such file, in a place that is there."""
    return isinstance(error, FileNotFoundError | NotADirectoryError) and answer_of(error)[1] != "NoSuchBucket"


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    status, code = answer_of(error)
    if status:
        return status in TRANSIENT_STATUSES or code in TRANSIENT_CODES
    names = {base.__name__ for base in type(error).__mro__}
    return bool(names & TRANSIENT_CLASSES) or getattr(error, "errno", None) in TRANSIENT_ERRNOS


def explain(error: BaseException) -> str:
    """What is wrong and what to do, for errors that stay."""
    status, code = answer_of(error)
    key = os.environ.get("AWS_ACCESS_KEY_ID", "")
    shown = f"the key {key[:4]}…{key[-2:]}" if key else "the default credentials"
    if code in EXPLAINED_CODES:
        return EXPLAINED_CODES[code].format(key=shown)
    if status in (401, 403):
        return f"access denied for {shown}. It needs {PERMISSIONS} there. The store said: {text_of(error)}"
    if "Credentials" in type(error).__name__:
        return "no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, or an instance role."
    explanation = EXPLAINED_ERRNOS.get(getattr(error, "errno", None) or 0)
    return explanation.format(user=os.geteuid()) if explanation else text_of(error)


def text_of(error: BaseException) -> str:
    status, code = answer_of(error)
    answer = f" (HTTP {status} {code})" if status else ""
    return f"{type(error).__name__}: {error}{answer}"
