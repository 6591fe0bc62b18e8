"""What the instances of a manifest cost for each hour, by a table of prices that whoever asks brings along.

Instances alone: storage, data and requests come on top. https://aws.amazon.com/sagemaker/ai/pricing/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.aws import DeployError
from deploy.observe import Observed
from deploy.resources import Desired


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars per hour, between what scaling goes down and up to."""

    low: float
    high: float
    unknown: tuple[str, ...] = ()
    """Instance types without a price, which are not counted."""


def read_prices(path: Path) -> dict[str, float]:
    """Return dollars per hour by instance type, from a YAML or JSON file that holds just these.

    Raises:
        DeployError: the file cannot be read, or holds something else.
    """
    try:
        table = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DeployError(f"{path}: {error}") from None
    if not isinstance(table, dict) or not table:
        raise DeployError(f"{path}: expected a table of prices, such as `ml.g5.2xlarge: 1.515`")
    prices = {}
    for name, price in table.items():
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
            raise DeployError(f"{path}: {name}: expected dollars per hour, such as 1.515")
        prices[str(name)] = float(price)
    return prices


def cost_of_desired(desired: Desired, prices: Mapping[str, float]) -> Cost:
    """Return what the manifest's endpoints will cost."""
    bounds = {target.name: target.spec for target in desired.of("scalable-target")}
    configs = {config.name: config.spec for config in desired.of("endpoint-config")}
    return _sum(
        (
            (endpoint.name, variant, variant.get("InitialInstanceCount"))
            for endpoint in desired.of("endpoint")
            for variant in configs.get(endpoint.spec["EndpointConfigName"], {}).get("ProductionVariants", ())
        ),
        bounds,
        prices,
    )


def cost_of_observed(observed: Observed, prices: Mapping[str, float]) -> Cost:
    """Return what the endpoints that are there cost."""
    bounds = {found.name: found.spec for found in observed.values() if found.kind == "scalable-target"}
    configs = {found.name: found.spec for found in observed.values() if found.kind == "endpoint-config"}
    rows = []
    for endpoint in observed.values():
        if endpoint.kind != "endpoint" or not endpoint.owned:
            continue
        running = {variant["VariantName"]: variant for variant in endpoint.details["variants"]}
        for variant in configs.get(endpoint.spec["EndpointConfigName"], {}).get("ProductionVariants", ()):
            now = running.get(variant["VariantName"], {}).get("DesiredInstanceCount")
            rows.append((endpoint.name, variant, variant.get("InitialInstanceCount") if now is None else now))
    return _sum(rows, bounds, prices)


def _sum(
    rows: Iterable[tuple[str, Mapping[str, Any], int | None]],
    bounds: Mapping[str, Mapping[str, Any]],
    prices: Mapping[str, float],
) -> Cost:
    low, high, unknown = 0.0, 0.0, []
    for endpoint, variant, count in rows:
        if "ServerlessConfig" in variant:
            continue  # costs nothing by the hour
        # Of a list of types, any may be what is had.
        types = [str(one["InstanceType"]) for one in variant.get("InstancePools", [variant])]
        unknown += [one for one in types if one not in prices]
        each = [prices[one] for one in types if one in prices]
        if not each:
            continue
        scaled = bounds.get(f"endpoint/{endpoint}/variant/{variant['VariantName']}")
        managed = variant.get("ManagedInstanceScaling", {})
        least, most = count or 0, count or 0
        if scaled is not None:
            least, most = scaled.get("MinCapacity", least), scaled.get("MaxCapacity", most)
        elif managed.get("Status") == "ENABLED":
            least, most = managed.get("MinInstanceCount", least), managed.get("MaxInstanceCount", most)
        low, high = low + least * min(each), high + most * max(each)
    return Cost(low, high, tuple(sorted(set(unknown))))
