"""A person's browser as far as logging in needs one: `python browser.py URL FILE` follows every redirect and keeps the page that it ends on."""

import sys
from pathlib import Path

import httpx

if __name__ == "__main__":
    page = httpx.get(sys.argv[1], follow_redirects=True)
    Path(sys.argv[2]).write_text(f"{page.status_code}\n{page.text}", encoding="utf-8")
