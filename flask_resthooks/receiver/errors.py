"""Receiver: the one error of whatever is wrong with a request."""

from __future__ import annotations

from werkzeug.exceptions import BadRequest

from ..errors import SignatureError


class HookRefused(SignatureError, BadRequest):
    """A request is no genuine hook; the message says why, and quotes nothing of the request.

    Flask answers it by itself: with 400, or 413 if the body is too large (`code` tells). An app
    that wants another answer registers an error handler for it. Answers to the sender that its
    attempt has failed, so a genuine hook comes again.

    :param reason: the message.
    :param code: the status of the answer.
    """

    def __init__(self, reason: str, code: int = 400) -> None:
        BadRequest.__init__(self, reason)
        self.reason = reason
        self.code = code
