"""Pages of HTML that need no network."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader
from plotly.offline import get_plotlyjs

from conmim_lightning.files import write_text

_TEMPLATE = "page.html.j2"


class Table(NamedTuple):
    """A table.

    Attributes:
        header: names of the columns.
        rows: cells of each row.
        numbers: positions of the columns with numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()


class EmbeddedPicture(NamedTuple):
    """A picture within the page: its name, and the content of its PNG file as base64."""

    name: str
    data: str


class Section(NamedTuple):
    """A section of a page.

    Attributes:
        title: heading.
        charts: charts as HTML.
        tables: tables.
        pictures: pictures.
        summary: heading of the text.
        text: long text, folded.
    """

    title: str
    charts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[EmbeddedPicture] = ()
    summary: str = ""
    text: str = ""

    @property
    def anchor(self) -> str:
        """Identifier of the heading."""
        return re.sub("[^a-z0-9]+", "-", self.title.lower()).strip("-")


def embed(path: Path, folder: Path) -> EmbeddedPicture:
    """Read a PNG file; its name is relative to a folder."""
    return EmbeddedPicture(str(path.relative_to(folder)), base64.b64encode(path.read_bytes()).decode())


def write_page(path: Path, title: str, lead: Sequence[str], sections: Sequence[Section]) -> None:
    """Write a page; all texts are escaped.

    Args:
        path: file to write.
        title: heading of the page.
        lead: lines below it.
        sections: sections; empty ones are left out.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    shown = [section for section in sections if section.charts or section.tables or section.pictures or section.text]
    script = get_plotlyjs() if any(section.charts for section in shown) else ""
    page = environment.get_template(_TEMPLATE).render(title=title, lead=lead, sections=shown, script=script)
    write_text(path, page, errors="replace")
