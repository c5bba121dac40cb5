"""Follows the links of a built book that stay within it: to pages, and to headings in them. Usage: links.py BOOK."""

import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.links, self.names = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes) -> None:
        for name, value in attributes:
            if name == "id":
                self.names.add(value)
            if tag == "a" and name == "href" and value:
                self.links.append(value)


book = pathlib.Path(sys.argv[1]).resolve()
# The page for the printer has all others once more.
pages = {path: Page(path) for path in book.rglob("*.html") if path.name not in ("print.html", "toc.html")}
lost, followed = [], 0
for path, page in pages.items():
    for link in page.links:
        url = urllib.parse.urlsplit(link)
        if url.scheme or url.netloc:
            continue
        to = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
        followed += 1
        if to not in pages and not to.exists():
            lost.append(f"{path.name}: {link}: there is no such page")
        elif url.fragment and to in pages and urllib.parse.unquote(url.fragment) not in pages[to].names:
            lost.append(f"{path.name}: {link}: there is no such heading")
if lost or not followed:
    sys.exit("docs: " + "\n  ".join(sorted(set(lost)) or ["no link was found"]))
print(f"docs: {len(pages)} pages, {followed} links")
