"""The dashboard asks for metrics that the engine makes, with tags that they have."""

from __future__ import annotations

import json
import re
from typing import Any

from engine.flow.metrics import COUNTERS, IN_FLIGHT, WAITING
from tests.cluster.files import CLUSTER

DASHBOARD: dict[str, Any] = json.loads((CLUSTER / "grafana.json").read_text())
#: What Prometheus calls them, and their tags.
KNOWN = {
    **{f"ray_{name}_total": {"run", tag} for name, (_, tag) in COUNTERS.items()},
    f"ray_{WAITING}": {"run"},
    f"ray_{IN_FLIGHT}": {"run", "pool"},
}


def test_every_expression_names_metrics_and_tags_that_exist() -> None:
    asked = set()
    for target in (target for panel in DASHBOARD["panels"] for target in panel["targets"]):
        names = re.findall(r"ray_\w+", target["expr"])
        tags = {
            *re.findall(r"by \((\w+)\)", target["expr"]),
            *re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]),
        }
        assert names and all(tags <= KNOWN[name] for name in names), target["expr"]
        assert target["expr"].count("(") == target["expr"].count(")")
        asked |= set(names)
    assert asked >= KNOWN.keys() - {"ray_connote_requests_total"}


def test_panels_have_places_of_their_own() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in DASHBOARD["panels"]})
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"]))) - {"__rate_interval"}
    assert used <= variables
