"""Documents as pages of their own: Markdown to HTML that runs nothing, with a style for the screen and for paper.

Raw HTML in the Markdown is shown as text; no script, no image, no address but http(s) and mailto survives.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.6 Inter, system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 28px; line-height: 1.2; } h2 { font-size: 20px; margin-top: 2.5rem; } h3 { font-size: 14px; opacity: 0.7; }
table { border-collapse: collapse; width: 100%; margin: 0.75rem 0; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 4px 8px; overflow-wrap: anywhere;
  border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
code { font: 12px/1.5 "JetBrains Mono", monospace; }
@page { size: A4; margin: 20mm 18mm; }
@media print {
  :root { color-scheme: light; }
  body { margin: 0; max-width: none; font-size: 10.5pt; }
  h2 { break-after: avoid; } h3 { break-after: avoid; } tr { break-inside: avoid; } thead { display: table-header-group; }
  a { color: inherit; text-decoration: none; }
}
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
# What a browser may do with such a page: show it in its style, and print it.
POLICY = f"sandbox; default-src 'none'; style-src 'sha256-{STYLE_HASH}'"


def html_of(markdown: str) -> str:
    """Markdown as clean HTML, without a page around it."""
    import nh3
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    tags = nh3.ALLOWED_TAGS - {"img", "svg", "math", "map", "area"}
    return nh3.clean(html, tags=tags, url_schemes={"http", "https", "mailto"}, link_rel="noopener noreferrer nofollow")


def page_of(title: str, markdown: str) -> str:
    """Markdown as a whole page."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{html_of(markdown)}</body></html>'
