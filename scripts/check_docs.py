"""Check the book and the other Markdown files without building them.

    python3 scripts/check_docs.py

Fails when a relative link names a file or heading that is not there, when a page of docs/src is not in SUMMARY.md, or when SUMMARY.md names
a page twice.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: pathlib.Path) -> list[str]:
    problems = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists():
            problems.append(f"{page.relative_to(ROOT)}: no such file: {target}")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
            problems.append(f"{page.relative_to(ROOT)}: no such heading: {target}")
    return problems


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    pages = [ROOT / name for name in listed if (ROOT / name).is_file()]
    problems = [problem for page in pages for problem in broken_links(page)]
    source = ROOT / "docs" / "src"
    named = LINK.findall((source / "SUMMARY.md").read_text(encoding="utf-8"))
    problems += [f"docs/src/SUMMARY.md: named twice: {name}" for name in sorted({n for n in named if named.count(n) > 1})]
    inside = {str(page.relative_to(source)) for page in pages if page.is_relative_to(source)} - {"SUMMARY.md"}
    problems += [f"docs/src/SUMMARY.md: page not listed: {name}" for name in sorted(inside - set(named))]
    for problem in problems:
        print(f"error: {problem}")
    print(f"docs: {len(pages)} pages, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
