"""Pages of the site that are generated: settings by group, metrics, and the files at the top of the project."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from reference import gauges_page, groups_page, python_page  # noqa: E402

TOP = ("RESULTS.md", "CHANGELOG.md", "CONTRIBUTING.md")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages and the files at the top of the project."""
    pages = {"gauges.md": gauges_page(), "reference/groups.md": groups_page(), "reference/python.md": python_page()}
    pages |= {name: (ROOT / name).read_text("utf-8") for name in TOP}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links to the pages of the site; links to source files become their names."""
    return _LINK.sub(lambda match: _link(match[1], match[2]), markdown)


def _link(text: str, target: str) -> str:
    path = target.removeprefix("../").removeprefix("docs/")
    if path.startswith(("tests/", "src/", "conf/", "notebooks/")) and not path.endswith(".ipynb"):
        return text if text.startswith("`") else f"{text} (`{path}`)"
    if path == "README.md":
        path = "index.md"
    return f"[{text}]({path if target.startswith(('../', 'docs/')) else target})"
