"""Who may ask the workbench, and what may be sent.

Host and Origin must be the server's own, or a page from elsewhere could send requests through the user's browser (DNS
rebinding). The token keeps out everything else on this machine that does not know the address.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from email.message import Message
from http import HTTPStatus
from io import BufferedIOBase

__all__ = ["Refused", "check_origin", "path_after_token", "read_body"]

_LARGEST = 2**20  # bytes of a body
_DIGITS = 9  # of its length


class Refused(Exception):
    """A request that is answered with a status and one line.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        self.status = status
        super().__init__(message)


def check_origin(method: str, headers: Message, hosts: Collection[str]) -> None:
    """Refuse a request that was not sent to this server, or not by its own page.

    Args:
        method: "GET" or "POST".
        headers: Headers of the request.
        hosts: ``host:port`` of this server, by every name it has.

    Raises:
        Refused: Host, Origin or Sec-Fetch-Site is not what the page of this server sends.
    """
    if headers["Host"] not in hosts:
        raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "this server answers only at its own address")
    origin = headers.get("Origin")
    if origin is not None and origin.removeprefix("http://") not in hosts:
        raise Refused(HTTPStatus.FORBIDDEN, "the request does not come from this page")
    if method == "POST" and headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Refused(HTTPStatus.FORBIDDEN, "the request does not come from this page")


def path_after_token(path: str, token: str) -> str:
    """The rest of a path whose first segment is the token.

    Raises:
        Refused: It is not the token.
    """
    first, _, rest = path.removeprefix("/").partition("/")
    if not secrets.compare_digest(first.encode(), token.encode()):
        raise Refused(HTTPStatus.FORBIDDEN, "wrong token; open the address that graphsplit printed")
    return rest


def read_body(headers: Message, stream: BufferedIOBase) -> dict[str, object]:
    """The JSON object that a request holds.

    Args:
        headers: Headers of the request.
        stream: Where its body is read from.

    Raises:
        Refused: The body is not JSON, not an object, larger than 1 MiB, or of unknown length.
    """
    if headers.get_content_type() != "application/json":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json")
    length = headers.get("Content-Length", "")
    if not (length.isascii() and length.isdigit()):
        raise Refused(HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length")
    if len(length) > _DIGITS or int(length) > _LARGEST:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request is larger than {_LARGEST:,} bytes")
    try:
        body = json.loads(stream.read(int(length)))
    except (ValueError, RecursionError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "the request is not JSON") from error
    if not isinstance(body, dict):
        raise Refused(HTTPStatus.BAD_REQUEST, "the request is not a JSON object")
    return body
