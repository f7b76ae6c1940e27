"""What all tests share."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the fault tests run long (`make chaos`)."""
    parser.addoption("--long", action="store_true", help="run fault tests for many rounds")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest test first, so that the others fill the other processors meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)
