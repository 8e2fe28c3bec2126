"""Networks and distributions, one idea a file. None knows how it is trained."""
