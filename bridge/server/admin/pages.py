"""What pages of the admin side are made of: Jinja2 templates, and files that do not change.

All that is filled into a template is escaped.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources.abc import Traversable

from aiohttp import ETag, web
from jinja2 import Environment, PackageLoader, StrictUndefined

from bridge.server.admin.requests import AdminRequest, Route


def templates(package: str) -> Environment:
    """Return the templates of a package; what they show is escaped, and has to be there."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


_TEMPLATES = templates("bridge.server.admin")


def render(template: str, request: AdminRequest, **values: object) -> str:
    """Return the page that a template makes of `values`; `request` is there for it, too."""
    return _TEMPLATES.get_template(template).render(request=request, **values)


_TYPES: Mapping[str, str] = {
    "css": "text/css",
    "ico": "image/x-icon",
    "js": "text/javascript",
    "png": "image/png",
    "svg": "image/svg+xml",
}


def static_routes(prefix: str, folder: Traversable) -> Sequence[Route]:
    """Return a route to each file of a folder, such as `/static/style.css` for `/static`.

    The files are read here, once: no path of a request leads to the disk. A browser keeps them, and
    asks whether they have changed (RFC 9111, section 5.2.2.4).

    Raises:
        KeyError: a file is of a kind that is not served.
    """
    return [_static_route(prefix, file) for file in folder.iterdir() if file.is_file()]


def _static_route(prefix: str, file: Traversable) -> Route:
    body = file.read_bytes()
    content_type = _TYPES[file.name.rpartition(".")[2]]
    etag = ETag(sha256(body).hexdigest()[:32])

    async def answer(request: AdminRequest) -> web.Response:
        is_kept = etag.value in {each.value for each in request.if_none_match or ()}
        response = web.Response(
            status=304 if is_kept else 200,
            body=None if is_kept else body,
            content_type=content_type,
            charset="utf-8" if content_type.startswith("text/") else None,
        )
        response.etag = etag
        response.headers["Cache-Control"] = "private, no-cache"
        return response

    return Route("GET", f"{prefix}/{file.name}", answer)
