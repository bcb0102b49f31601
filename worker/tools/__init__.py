"""Programs for maintainers: the generated reference pages, and the out-of-distribution report."""
