"""What the pictures beside a bundle share: SVG that needs nothing else to be looked at."""

from __future__ import annotations

from xml.sax.saxutils import escape

Sizes = tuple[int, int, int, int, int, int]  # width, height, left and top of the plot, its width and height


def begin(title: str, sizes: Sizes) -> list[str]:
    """The opening tag, the title and the plot's frame; `</svg>` closes it."""
    width, height, left, top, plot_width, plot_height = sizes
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="13">',
        f'<title>{escape(title)}</title><rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="24" font-size="15">{escape(title)}</text>',
        f'<rect x="{left}" y="{top}" width="{plot_width}" height="{plot_height}" fill="none" stroke="#888"/>',
    ]
