"""What a package offers is what its ``__all__`` says: no more, no less, in order."""

import importlib
import types
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for top in ("chat_app", "feedback_store", "rlhf_core")
    for path in (ROOT / top).rglob("__init__.py")
)


def public_names(package: types.ModuleType) -> set[str]:
    """Functions and classes that the package defines, or takes from its own modules."""
    return {
        name
        for name, value in vars(package).items()
        if not name.startswith("_")
        and f"{getattr(value, '__module__', '')}.".startswith(f"{package.__name__}.")
    }


def test_all_is_exact_and_sorted() -> None:
    for name in PACKAGES:
        package = importlib.import_module(name)
        exported = list(getattr(package, "__all__", []))
        assert exported == sorted(set(exported)), name
        assert public_names(package) <= set(exported), name
        for item in exported:
            assert getattr(package, item) is not None, f"{name}.{item}"


def test_a_package_says_what_it_is() -> None:
    assert all((importlib.import_module(name).__doc__ or "").strip() for name in PACKAGES)
