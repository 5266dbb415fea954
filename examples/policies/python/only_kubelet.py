"""Example policy: restarts a kubelet that does not run, and nothing else."""

from wit_world import exports
from wit_world.imports.types import (
    Action_RestartKubelet,
    Decision,
    Metadata,
    Rule,
    ServiceName,
    ServiceState,
)


class Policy(exports.Policy):
    def describe(self):
        rules = [Rule("kubelet-down", "kubelet does not run: restart it")]
        return Metadata("only-kubelet", "1.0.0", "restarts a kubelet that does not run", rules)

    def decide(self, seen):
        return [
            Decision("kubelet-down", Action_RestartKubelet(), f"kubelet does not run ({service.detail})", [], 0.75, 3, 15000)
            for service in seen.services
            if service.name == ServiceName.KUBELET
            and service.state in (ServiceState.INACTIVE, ServiceState.FAILED)
        ]
