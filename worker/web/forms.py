"""Reading a form that one of our pages has posted."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import Request

_LONGEST_FORM = 16_384


async def submitted(request: Request) -> dict[str, str]:
    """Return the fields of a submitted form; none if the body is not a form or is longer than any of ours."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            return {}
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=20, errors="replace")
    except ValueError:
        return {}
    return {key: values[0] for key, values in fields.items()}
