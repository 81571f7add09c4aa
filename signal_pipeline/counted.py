"""A number with its noun, as every message writes it. Not here: any other wording."""


def counted(n: int, one: str, many: str | None = None) -> str:
    """1 signal, 2 signals; `many` where an s does not make it: 1 anomaly, 2 anomalies."""
    return f"{n} {one if n == 1 else many or one + 's'}"
