"""Hooks of the docs site: the pages that lie at the project's root (README, CHANGELOG, …) are pages of it too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

#: Where the root's pages lie in the site; a README.md there would be taken for the index.
PAGES = {"README.md": "project/readme.md"} | {
    f"{name}.md": f"project/{name.lower()}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")
}

_LINK = re.compile(r"(\]\()((?:\.\./)*)([^):#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the root's pages."""
    for name, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to the same page in the site as in the repository."""
    here = page.file.src_uri
    depth = here.count("/")
    from_root = here in PAGES.values()

    def follow(link: re.Match[str]) -> str:
        opening, up, target = link.groups()
        inside = target.removeprefix("docs/")
        if target in PAGES and (from_root or len(up) // 3 == depth + 1):
            return f"{opening}{'../' * depth}{PAGES[target]}"
        if from_root and inside != target:
            return f"{opening}../{inside}"
        return link[0]

    return _LINK.sub(follow, markdown)
