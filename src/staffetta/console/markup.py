"""Text as it may stand in an XML document, whatever it holds. The only way by which any text gets into one."""

from __future__ import annotations

from typing import Final

_ENTITIES: Final = {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
    ord("'"): "&#39;",
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)), "?"),
}
"""What XML 1.0 cannot hold (section 2.2) or what hides is shown as `?`."""


def xml(text: str) -> str:
    """`text` for content or a quoted attribute."""
    return text.translate(_ENTITIES)


def element(name: str, text: str | int) -> str:
    """One element with text inside. The name is ours."""
    return f"<{name}>{xml(str(text))}</{name}>"
