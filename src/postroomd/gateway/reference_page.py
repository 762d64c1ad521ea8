"""The reference page: Swagger UI over the gateway's own OpenAPI document, served without any other origin."""

from collections.abc import Iterator, Mapping

from postroomd.gateway.static import StaticFile

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # the icons in Swagger UI's style sheet
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: nothing is loaded from, or sent to, another origin."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
FILES: Mapping[str, str] = {
    "reference.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-32x32.png": "image/png",
}


def reference_page() -> Iterator[tuple[str, StaticFile]]:
    """Yield the path and endpoint of the page and of its files. Raises OSError."""
    yield "/docs", StaticFile("reference/index.html", "text/html; charset=utf-8", HEADERS)
    for name, media_type in FILES.items():
        yield f"/docs/{name}", StaticFile(f"reference/{name}", media_type)
