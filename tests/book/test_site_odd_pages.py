"""The second page of _toc.yml, the fourth, the sixth and so on, in a browser; the others: test_site_even_pages.py."""

from __future__ import annotations

import pytest

from tests.book.pages_in_browser import PAGES, PageInBrowser


@pytest.mark.parametrize("name", PAGES[1::2], scope="class")
class TestOddPages(PageInBrowser):
    """The tests are inherited."""
