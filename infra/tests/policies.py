"""Evaluates network policies as their documentation tells, plain ones and Cilium's. A key that isn't known here is an
error: it would be a rule that isn't judged.

https://kubernetes.io/docs/concepts/services-networking/network-policies/
https://docs.cilium.io/en/stable/security/policy/language/
"""

import ipaddress
import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict = field(hash=False)


@dataclass(frozen=True)
class Outside:
    """An address, its name, and what Cilium takes it for."""

    address: str
    host: str = ""
    entity: str = "world"


def only(mapping, *keys):
    assert mapping.keys() <= set(keys), mapping
    return mapping


def selects(selector, labels):
    if "matchLabels" not in only(selector, "matchLabels"):
        return True
    return selector["matchLabels"].items() <= labels.items()


def policies(manifests):
    kinds = {it["kind"] for it in manifests if it["kind"].endswith("NetworkPolicy")}
    assert len(kinds) <= 1, "what either kind allows is allowed"
    return [it for it in manifests if it["kind"] in kinds]


def allowed(manifests, source, destination, port, protocol="TCP", request=None):
    """Whether a connection is let through on both sides; `request` is (method, path)."""
    found = policies(manifests)
    ways = [(source, destination, "egress"), (destination, source, "ingress")]
    return all(
        _allowed(found, pod, peer, direction, port, protocol, request) for pod, peer, direction in ways if isinstance(pod, Pod)
    )


def _allowed(found, pod, peer, direction, port, protocol, request):
    enforced = False
    for policy in found:
        if policy["metadata"]["namespace"] != pod.namespace:
            continue
        cilium = policy["kind"] == "CiliumNetworkPolicy"
        spec = only(policy["spec"], "endpointSelector" if cilium else "podSelector", "ingress", "egress", *([] if cilium else ["policyTypes"]))
        if not selects(spec["endpointSelector" if cilium else "podSelector"], pod.labels):
            continue
        if cilium:
            enforced |= direction in spec
            rules = [it for it in spec.get(direction, []) if it]
            hit = any(_cilium(it, pod, peer, direction, port, protocol, request) for it in rules)
        else:
            assert set(spec["policyTypes"]) >= {it.capitalize() for it in ("ingress", "egress") if it in spec}
            enforced |= direction.capitalize() in spec["policyTypes"]
            hit = any(_plain(it, pod, peer, direction, port, protocol) for it in spec.get(direction, []))
        if hit:
            return True
    return not enforced


def _plain(rule, pod, peer, direction, port, protocol):
    key = "from" if direction == "ingress" else "to"
    only(rule, key, "ports")
    # Without either, everybody or every port is meant.
    assert rule.get(key) and rule.get("ports"), rule
    ports = [only(it, "port", "protocol") for it in rule["ports"]]
    return {"port": port, "protocol": protocol} in ports and any(_plain_peer(it, pod, peer) for it in rule[key])


def _plain_peer(rule, pod, peer):
    if "ipBlock" in rule:
        block = ipaddress.ip_network(only(only(rule, "ipBlock")["ipBlock"], "cidr")["cidr"])
        # Meant for addresses outside of the cluster.
        return isinstance(peer, Outside) and ipaddress.ip_address(peer.address) in block
    only(rule, "namespaceSelector", "podSelector")
    assert any(it.get("matchLabels") for it in rule.values()), "an empty selector is everybody"
    if not isinstance(peer, Pod):
        return False
    if "namespaceSelector" in rule:
        here = selects(rule["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace})
    else:
        here = peer.namespace == pod.namespace
    return here and selects(rule.get("podSelector", {}), peer.labels)


def _cilium(rule, pod, peer, direction, port, protocol, request):
    way = "from" if direction == "ingress" else "to"
    peers = [f"{way}Endpoints", f"{way}Entities", f"{way}CIDR"] + (["toFQDNs"] if way == "to" else [])
    only(rule, *peers, "toPorts")
    # The kinds of peers in a rule restrict each other.
    (kind,) = [it for it in peers if it in rule]
    assert rule[kind] and rule["toPorts"], rule
    if not any(_cilium_peer(kind, it, pod, peer) for it in rule[kind]):
        return False
    return any(_cilium_port(it, port, protocol, request) for it in rule["toPorts"])


def _cilium_peer(kind, rule, pod, peer):
    if kind == "toFQDNs":
        return isinstance(peer, Outside) and matches(rule, peer.host)
    if kind.endswith("Entities"):
        assert rule in ("kube-apiserver", "ingress"), rule
        return isinstance(peer, Outside) and rule == peer.entity
    if kind.endswith("CIDR"):
        return isinstance(peer, Outside) and ipaddress.ip_address(peer.address) in ipaddress.ip_network(rule)
    labels = {key.removeprefix("k8s:"): value for key, value in only(rule, "matchLabels")["matchLabels"].items()}
    assert labels, "an empty selector is everybody"
    namespace = labels.pop("io.kubernetes.pod.namespace", pod.namespace)
    return isinstance(peer, Pod) and peer.namespace == namespace and labels.items() <= peer.labels.items()


def _cilium_port(rule, port, protocol, request):
    only(rule, "ports", "rules")
    if {"port": str(port), "protocol": protocol} not in rule["ports"]:
        return False
    http = only(rule.get("rules", {}), "http", "dns").get("http")
    if http is None or request is None:
        return True
    method, path = request
    return any(it["method"] == method and re.fullmatch(it["path"], path) for it in (only(it, "method", "path") for it in http))


def matches(rule, name):
    """Whether a name is meant; `*` is any text without a dot."""
    if "matchName" in only(rule, "matchName", "matchPattern"):
        return rule["matchName"] == name
    return bool(re.fullmatch(re.escape(rule["matchPattern"]).replace(r"\*", "[-a-zA-Z0-9_]*"), name))


def resolved(manifests, pod, name):
    """Whether Cilium lets a pod ask for a name."""
    return any(
        matches(it, name)
        for policy in policies(manifests)
        if selects(policy["spec"]["endpointSelector"], pod.labels)
        for rule in policy["spec"].get("egress", [])
        for ports in rule.get("toPorts", [])
        for it in ports.get("rules", {}).get("dns", [])
    )
