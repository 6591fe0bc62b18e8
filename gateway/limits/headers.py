"""What callers are told about their limits, in OpenAI's words.

https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
"""

from __future__ import annotations

from gateway.limits.rules import Kind, Rule, Verdict

_NAMES = ((Kind.REQUESTS, "requests"), (Kind.TOKENS, "tokens"))


def limit_headers(rules: tuple[Rule, ...], verdict: Verdict) -> list[tuple[str, str]]:
    """Return `x-ratelimit-*` of the request and token rates: of several, of the one that is nearest to its end."""
    nearest: dict[Kind, tuple[int, int, int]] = {}
    for rule, standing in zip(rules, verdict.standings, strict=True):
        if rule.is_rate and not rule.shadow:
            before = nearest.get(rule.kind)
            if before is None or standing.remaining < before[0]:
                nearest[rule.kind] = (standing.remaining, rule.amount, standing.reset_ms)
    headers: list[tuple[str, str]] = []
    for kind, word in _NAMES:
        found = nearest.get(kind)
        if found is not None:
            remaining, amount, reset_ms = found
            headers += [
                (f"x-ratelimit-limit-{word}", str(amount)),
                (f"x-ratelimit-remaining-{word}", str(remaining)),
                (f"x-ratelimit-reset-{word}", duration(reset_ms)),
            ]
    return headers


def duration(milliseconds: int) -> str:
    """Return a time as OpenAI writes it: `0s`, `20ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`."""
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(max(0, milliseconds), 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    if not minutes:
        return f"{seconds}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s"


def words(milliseconds: int) -> str:
    """Return a time for a sentence: `in 3 seconds`."""
    seconds = -(-milliseconds // 1000)
    if seconds < 120:
        return f"in {seconds} second{'s' * (seconds != 1)}"
    if seconds < 7200:
        return f"in {-(-seconds // 60)} minutes"
    return f"in {-(-seconds // 3600)} hours"
