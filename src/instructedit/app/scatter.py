"""Points in the plane as one SVG that needs nothing else: a panel beside the other, a colour a label."""

from collections.abc import Sequence

from instructedit.analysis.pictures import COLOURS, Panel
from instructedit.app.cleaning import escape

SIZE, GAP, TOP, BOTTOM = 280, 24, 44, 24  # pixels: a panel's side, between two, above for titles, below
MARGIN = 0.06  # of a panel's side, around the points
DOT, MARK = 3.5, 9.0  # radius of a point, and of the one that is looked for


def draw_scatter(panels: Sequence[Panel], mark: str) -> str:
    """An SVG of the panels with a legend; the points labelled `mark` are large, black and ringed.

    A point's label shows when a pointer rests on it. No panels: an empty text.
    """
    if not panels:
        return ""
    names = sorted({label for panel in panels for label in panel.labels} - {mark})
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    width = len(panels) * (SIZE + GAP) - GAP
    height = TOP + SIZE + BOTTOM
    drawn = [_draw(panel, place * (SIZE + GAP), colours, mark) for place, panel in enumerate(panels)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'style="width:100%;max-width:{width}px" font-family="system-ui,sans-serif" font-size="12">'
        f"{_legend({**colours, mark: '#000000'}, mark)}{''.join(drawn)}</svg>"
    )


def _draw(panel: Panel, left: int, colours: dict[str, str], mark: str) -> str:
    points = panel.points.double()
    low, high = points.min(0).values, points.max(0).values
    spread = float((high - low).max()) or 1.0
    middle = (low + high) / 2
    inner = SIZE * (1 - 2 * MARGIN)
    placed = ((points - middle) / spread * inner + SIZE / 2).tolist()
    parts = [
        f'<text x="{left}" y="{TOP - 8}" font-weight="600" fill="currentColor">{escape(panel.title)}</text>',
        f'<rect x="{left}" y="{TOP}" width="{SIZE}" height="{SIZE}" fill="none" stroke="currentColor" '
        'stroke-opacity="0.3"/>',
        f'<text x="{left}" y="{TOP + SIZE + 16}" fill="currentColor" fill-opacity="0.7">'
        f"{escape(' / '.join(axis for axis in panel.axes if axis))}</text>",
    ]
    order = sorted(range(len(placed)), key=lambda place: panel.labels[place] == mark)
    for place in order:
        x, y = left + placed[place][0], TOP + SIZE - placed[place][1]
        parts.append(_point(x, y, panel.labels[place], colours, mark))
    return "".join(parts)


def _point(x: float, y: float, label: str, colours: dict[str, str], mark: str) -> str:
    place, title = f'cx="{x:.1f}" cy="{y:.1f}"', f"<title>{escape(label)}</title>"
    if label != mark:
        return f'<circle {place} r="{DOT}" fill="{colours[label]}" opacity="0.75">{title}</circle>'
    ring = f'<circle {place} r="{MARK}" fill="#ffffff" stroke="#000000" stroke-width="2">{title}</circle>'
    return f'{ring}<circle {place} r="{DOT}" fill="#000000"/>'


def _legend(colours: dict[str, str], mark: str) -> str:
    parts, x = [], 0
    for name, colour in colours.items():
        parts.append(f'<circle cx="{x + 6}" cy="10" r="{5 if name != mark else 6}" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="14" fill="currentColor">{escape(name)}</text>')
        x += 40 + 7 * len(name)
    return "".join(parts)
