"""MkDocs hook: adds the pages that lie outside `docs/` to the site, and turns links between them into links within it.

On GitHub every link works as it is written; in the site `docs/` is the root, the README its first page.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parent.parent
ADDED = {
    "index.md": "README.md",
    "deploy/README.md": "deploy/README.md",
    "deploy/cxr-triage.toml": "deploy/cxr-triage.toml",
    "LICENSE": "LICENSE",
    "model/bundles/demonstration/curves.png": "model/bundles/demonstration/curves.png",
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files from outside `docs/`."""
    for address, path in ADDED.items():
        files.append(File.generated(config, address, abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page's text with its links as they are in the site."""
    written, in_site = {
        "index.md": ("docs/", ""),
        "deploy/README.md": (r"\.\./docs/", "../"),
    }.get(page.file.src_uri, (r"\.\./deploy/", "deploy/"))
    return re.sub(rf'(\]\(|(?:src|href)="){written}', rf"\g<1>{in_site}", markdown)
