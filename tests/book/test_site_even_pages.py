"""The first page of _toc.yml, the third, the fifth and so on, in a browser; the others: test_site_odd_pages.py."""

from __future__ import annotations

import pytest

from tests.book.pages_in_browser import PAGES, PageInBrowser


@pytest.mark.parametrize("name", PAGES[::2], scope="class")
class TestEvenPages(PageInBrowser):
    """The tests are inherited."""
