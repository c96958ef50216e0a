from tests.fixtures.small_comparison import small  # noqa: F401
